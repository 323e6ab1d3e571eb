#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A weight is set on both ranks, its low-precision copy too; all else stays, the old files too.
cp -r "$TINY" old
"$UNZERO" get old blocks.0.ln.bias -o bias.npy
"$UNZERO" get old blocks.0.ln.weight -o weight.npy
"$UNZERO" set old blocks.0.ln.bias weight.npy --output new >out
has out 'blocks.0.ln.bias: 4 elements in 3 fragments of 3 files, low-precision copy included'
"$UNZERO" get new blocks.0.ln.bias -o got.npy
cmp got.npy weight.npy
"$UNZERO" get new blocks.0.ln.bias --source lp --dtype fp32 -o got.npy --force
"$UNZERO" get old blocks.0.ln.weight --source lp --dtype fp32 -o want.npy
cmp got.npy want.npy
"$UNZERO" set new blocks.0.ln.bias bias.npy --output back -q
for file in old/global_step4/*.pt; do
    cmp "$file" "$TINY/global_step4/${file##*/}"
    cmp "$file" "back/global_step4/${file##*/}"
done
holds back case.json expected.safetensors global_step4 latest # what stands beside comes along
