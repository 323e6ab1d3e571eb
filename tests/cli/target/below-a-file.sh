#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
echo mine >file
expect 3 consolidate "$TINY" file/out
expect 3 consolidate "$TINY" file/out/model.safetensors
[ "$(cat file)" = mine ] || fail "the file changed"
holds . file
