#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Native experts under ZeRO 3 are refused by their files as well as by their names.
cp -r "$FIXTURES/good-z3-bf16-w2-tiny" z3
cp "$FIXTURES"/good-z2-bf16-w2-moe/global_step*/layer_0_expert_0_* z3/global_step*/
for source in z3 "$FIXTURES/unsupported-z3-moe"; do
    for command in consolidate universal; do
        expect 3 "$UNZERO" $command "$source" out 2>err
        has err 'deepspeed.moe under ZeRO-3'
        absent out
    done
done
