/* SPDX-License-Identifier: Apache-2.0 */
/* All of the library's headers. */
#ifndef UNZERO_UNZERO_H
#define UNZERO_UNZERO_H

#include <unzero/checkpoint.h>
#include <unzero/consolidate.h>
#include <unzero/diff.h>
#include <unzero/dtype.h>
#include <unzero/error.h>
#include <unzero/get.h>
#include <unzero/input.h>
#include <unzero/inspect.h>
#include <unzero/limits.h>
#include <unzero/linkage.h>
#include <unzero/map.h>
#include <unzero/names.h>
#include <unzero/reshard.h>
#include <unzero/set.h>
#include <unzero/universal.h>
#include <unzero/verify.h>
#include <unzero/version.h>

#endif
