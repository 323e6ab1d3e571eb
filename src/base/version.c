/* SPDX-License-Identifier: Apache-2.0 */
/* The running library's version. */
#include <unzero/version.h>

const char *uz_version(void)
{
    return UZ_VERSION_STRING;
}
