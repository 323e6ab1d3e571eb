#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Any name of tied weights will do.
"$UNZERO" get "$FROZEN" head.weight >out
has out 'head.weight: ' 'stored as '
