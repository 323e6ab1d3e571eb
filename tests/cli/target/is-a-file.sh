#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
echo mine >file
expect 3 consolidate "$TINY" file
expect 3 consolidate --force "$TINY" file
[ "$(cat file)" = mine ] || fail "the file changed"
