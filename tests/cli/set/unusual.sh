#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# NaN and infinities are what the user wants, or a mistake: told, and an error under --strict.
"$UNZERO" get "$TINY" emb.weight -o w.npy # 36 fp32 values behind 128 bytes
{
    head -c 128 w.npy
    printf '\000\000\300\177\000\000\200\177\000\000\200\377'
    tail -c +141 w.npy
} >odd.npy
"$UNZERO" set "$TINY" emb.weight odd.npy --output new 2>err
has err 'unzero: warning: of the new values of emb.weight 1 are NaN and 2 infinite'
"$UNZERO" get new emb.weight >out
has out 'NaN 1  Inf 2'
"$UNZERO" set "$TINY" emb.weight odd.npy --dry-run --output other --json >out 2>err
has out '"warnings":["of the new values of emb.weight 1 are NaN and 2 infinite'
expect 3 "$UNZERO" set --strict "$TINY" emb.weight odd.npy --output strict 2>err
has err '1 are NaN and 2 infinite'
absent strict

# So are values that fit fp32 but not the low-precision copy: 1e38 in fp16.
half=$FIXTURES/good-z2-fp16-w3-roundrobin
"$UNZERO" get "$half" blocks.0.ln.bias -o b.npy
{
    head -c 128 b.npy
    printf '\231\166\226\176'
    tail -c +133 b.npy
} >large.npy
"$UNZERO" set "$half" blocks.0.ln.bias large.npy --output wide --json >out 2>err
has err '1 values are too large for a dtype they are stored in and became infinite'
has out '"overflows":1' 'became infinite'
expect 3 "$UNZERO" set --strict "$half" blocks.0.ln.bias large.npy --output strict 2>err
has err 'became infinite'
absent strict strict.unzero-partial.*
