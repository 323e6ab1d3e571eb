#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate --max-shard-size 300 "$TINY" out
set -- out/model-*.safetensors
[ $# -gt 1 ] || fail "one file"
n=$(printf '%05d' $#)
i=0
for file; do
    i=$((i + 1))
    [ "$file" = "out/model-$(printf '%05d' "$i")-of-$n.safetensors" ] || fail "$file of $n"
done
has out/model.safetensors.index.json '"weight_map"' '"total_size"' '"blocks.0.up.weight"'
absent out/model.safetensors
