#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Only that file is replaced: its neighbours are not its shards.
consolidate "$TINY" fresh
mkdir out
echo mine >out/model.safetensors
echo mine >out/weights.safetensors
consolidate --force "$TINY" out/weights.safetensors
cmp fresh/model.safetensors out/weights.safetensors
[ "$(cat out/model.safetensors)" = mine ] || fail "the neighbour changed"
holds out model.safetensors weights.safetensors
