#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A dry run tells of a folder that has an output's name; nothing is touched.
mkdir -p out/model-00002-of-00003.safetensors
echo mine >out/model.safetensors.index.json
mkdir out/model.safetensors
for option in --dry-run --force; do
    expect 3 consolidate $option "$TINY" out 2>stderr
    has stderr "unzero: out/model.safetensors: is a folder"
done
[ "$(cat out/model.safetensors.index.json)" = mine ] || fail "the old index changed"
rmdir out/model.safetensors
# a folder that only looks like a shard of another output is foreign
consolidate --force "$TINY" out
holds out model-00002-of-00003.safetensors model.safetensors
