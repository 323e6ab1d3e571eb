#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A universal checkpoint: the parameter's file changes, and its low-precision copy.
cp -r "$FIXTURES/uc-z2-bf16-w2-2groups-tiny" old
"$UNZERO" get old blocks.0.ln.bias -o bias.npy
"$UNZERO" get old blocks.0.ln.weight -o weight.npy
"$UNZERO" set old blocks.0.ln.bias weight.npy --output new >out
has out 'blocks.0.ln.bias: 4 elements in 2 fragments of 2 files, low-precision copy included'
holds new global_step4_universal latest_universal
(cd old && find . -type f | sort) >want
(cd new && find . -type f | sort) >got
cmp got want
"$UNZERO" get new blocks.0.ln.bias -o got.npy
cmp got.npy weight.npy
"$UNZERO" get new blocks.0.ln.bias --source lp --dtype fp32 -o got.npy -f
"$UNZERO" get old blocks.0.ln.weight --source lp --dtype fp32 -o want.npy
cmp got.npy want.npy
"$UNZERO" set -q new/global_step4_universal blocks.0.ln.bias bias.npy --output back # by its tag folder
for file in $(cd old && find . -name '*.pt'); do
    cmp "old/$file" "back/$file"
    case $file in
    */blocks.0.ln.bias/fp32.pt | */mp_rank_00_model_states.pt) expect 1 cmp -s "old/$file" "new/$file" ;;
    *) cmp "old/$file" "new/$file" ;;
    esac
done

# ZeRO 3: moments, too; buffers, of which every rank's model states hold one, are refused.
three=$FIXTURES/uc-z3-bf16-w2-tiny
"$UNZERO" get "$three" odd --state exp_avg -o odd.npy
"$UNZERO" set -q "$three" odd odd.npy --output three
"$UNZERO" get three odd -o got.npy -f
cmp got.npy odd.npy
"$UNZERO" get "$three" blocks.0.steps -o steps.npy
expect 3 "$UNZERO" set "$three" blocks.0.steps steps.npy --output none 2>err
has err 'blocks.0.steps cannot be set'
absent none
