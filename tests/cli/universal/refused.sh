#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What cannot become a universal checkpoint is told by name, and nothing is left.
refused()
{
    text=$1
    shift
    expect 3 "$UNZERO" universal "$@" out 2>err
    has err "$text"
    absent out out.unzero-partial.* latest_universal
}
refused 'is an 8-bit optimizer' "$FIXTURES/good-states-8bit"
refused 'is a 1-bit optimizer' "$FIXTURES/good-states-1bit"
refused 'without ZeRO (stage 0)' "$FIXTURES/good-z0-bf16-w1"
refused 'momentum_buffer is not of the size of the partition' "$FIXTURES/good-z2-bf16-w2-muon"
refused 'row is not of the size of the partition' "$FIXTURES/good-states-odd-size"
refused 'is a universal checkpoint already' "$FIXTURES/uc-z2-bf16-w2-2groups-tiny"
refused 'needs the optimizer states exp_avg and exp_avg_sq' --dialect deepspeed \
    "$FIXTURES/good-z2-bf16-w2-sgd"
refused 'max_exp_avg_sq is left out' --dialect deepspeed --strict "$FIXTURES/good-z3-bf16-w2-amsgrad"
refused 'Unable to find' "$FIXTURES/bad-no-latest"
refused 'needs at least' --max-memory 1MB "$TINY"

mkdir there
: >there/something
expect 3 "$UNZERO" universal "$TINY" there 2>err
has err 'exists and is not empty'
: >file
expect 3 "$UNZERO" universal "$TINY" file 2>err
has err 'exists; give the name of a new folder'
expect 3 "$UNZERO" universal "$TINY" no/where 2>err
has err 'no folder can be made there'

mkdir -p in/latest_universal
expect 3 "$UNZERO" universal "$TINY" in/out 2>err
has err 'is a folder, where the name of the new checkpoint is to be written'
absent in/out in/*partial*

expect 2 "$UNZERO" universal 2>err
has err 'CHECKPOINT and OUT are missing'
expect 2 "$UNZERO" universal "$TINY" 2>err
has err 'OUT is missing'
expect 2 "$UNZERO" universal "$TINY" a b 2>err
has err 'one argument too many'
expect 2 "$UNZERO" universal --dialect both "$TINY" out 2>err
has err 'any'
