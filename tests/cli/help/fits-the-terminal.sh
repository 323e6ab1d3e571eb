#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
"$UNZERO" --help >text
"$UNZERO" consolidate --help >>text
if grep -n '.\{81,\}' text; then
    fail "long lines"
fi
