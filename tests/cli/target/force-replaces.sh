#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Stale shards go with their index, foreign files stay.
consolidate --max-shard-size 300 "$TINY" out
[ -e out/model.safetensors.index.json ] || fail "no index"
echo mine >out/config.json
echo mine >out/model-notes.safetensors
echo mine >out/adapter_model.safetensors
mkdir out/sub
consolidate --force "$TINY" out
holds out adapter_model.safetensors config.json model-notes.safetensors model.safetensors sub
for name in config.json model-notes.safetensors adapter_model.safetensors; do
    [ "$(cat "out/$name")" = mine ] || fail "$name changed"
done
consolidate "$TINY" fresh
cmp out/model.safetensors fresh/model.safetensors
