#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
expect 3 "$UNZERO" get "$TINY" emb.weigth 2>err
has err "there is no tensor 'emb.weigth'" 'nearest: emb.weight'
expect 3 "$UNZERO" get "$TINY" emb.weight --slice 9 2>err
has err 'dimension 0 has 9 elements'
for slice in abc 1:2:0 ::-1 '0,'; do
    expect 2 "$UNZERO" get "$TINY" emb.weight --slice "$slice" 2>err
    has err '--slice: slice '
done
expect 3 "$UNZERO" get "$TINY" emb.weight --state nonsense 2>err
has err "keeps no state 'nonsense'" exp_avg
expect 3 "$UNZERO" get "$TINY" blocks.0.steps --dtype bf16 2>err
has err 'stored as int64, which is not converted to bf16'
expect 3 "$UNZERO" get "$TINY" emb.weight --dtype bf16 -o w.npy 2>err
has err 'numpy has no dtype bf16' '--dtype fp32'
expect 2 "$UNZERO" get "$TINY" emb.weight -o w.bin 2>err
has err 'neither .npy nor .safetensors'
expect 2 "$UNZERO" get "$TINY" emb.weight --dtype int8 2>err
has err "--dtype 'int8': not one of: fp32, bf16, fp16"
expect 2 "$UNZERO" get "$TINY" 2>err
has err 'NAME is missing'
expect 2 "$UNZERO" get "$TINY" emb.weight --json -o - 2>err
has err 'both want standard output'
absent w.npy w.bin
