#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A universal checkpoint gives the bytes that the ZeRO checkpoint gives which it was made of.
for name in z2-bf16-w2-2groups-tiny z3-bf16-w2-tiny; do
    for state in exp_avg all; do
        consolidate --state "$state" "$FIXTURES/good-$name" "zero-$name-$state.safetensors"
        consolidate --state "$state" "$FIXTURES/uc-$name" "uc-$name-$state.safetensors"
        cmp "zero-$name-$state.safetensors" "uc-$name-$state.safetensors"
    done
    consolidate "$FIXTURES/good-$name" "zero-$name.safetensors"
    consolidate "$FIXTURES/uc-$name"/global_step*_universal "uc-$name.safetensors"
    cmp "zero-$name.safetensors" "uc-$name.safetensors"
    "$UNZERO" diff "$FIXTURES/uc-$name" "$FIXTURES/good-$name" >/dev/null
    "$UNZERO" inspect "$FIXTURES/uc-$name" >out
    has out universal
done
