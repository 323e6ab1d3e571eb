#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A slash means a folder, whatever the name; one made for nothing goes again.
consolidate "$TINY" out.safetensors/
holds out.safetensors model.safetensors
consolidate "$TINY" new.bin//
holds new.bin model.safetensors
echo mine >file.safetensors
expect 3 consolidate --force "$TINY" file.safetensors/ 2>stderr
has stderr "file.safetensors: is a file"
[ "$(cat file.safetensors)" = mine ] || fail "the file changed"
