#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Shards and an index; --force removes them with the next output, foreign files stay.
consolidate --format pt --max-shard-size 300 "$TINY" out
n=$(find out -name 'pytorch_model-0000?-of-0000?.bin' | wc -l)
[ "$n" -gt 1 ] || fail "$n shards"
last=pytorch_model-0000$n-of-0000$n.bin
[ -e "out/$last" ] || fail "no $last"
has out/pytorch_model.bin.index.json '"total_size": ' '"weight_map"' ": \"$last\""
echo mine >out/adapter_model.bin
echo mine >out/model-00001-of-00002.safetensors
expect 3 consolidate --format pt "$TINY" out 2>stderr
has stderr "already holds pytorch_model-00001-of-0000$n.bin"
consolidate --format pt --force "$TINY" out
holds out adapter_model.bin model-00001-of-00002.safetensors pytorch_model.bin
