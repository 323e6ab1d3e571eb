#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The optimizer's shards are gone: the 16-bit weights are left, and the error says so.
cp -r "$TINY" broken
chmod -R u+w broken
rm broken/*/*_optim_states.pt
expect 3 consolidate broken out 2>stderr
has stderr '--source lp'
absent out

# Weights that are there in 16 bits only are written in 16 bits, unless another dtype is asked for.
consolidate broken out --source lp
consolidate "$TINY" want --dtype keep
cmp out/model.safetensors want/model.safetensors # the low-precision copy is the rounded master
consolidate broken wide --source lp --dtype fp32
[ "$(tensor wide/model.safetensors emb.weight | cut -d ' ' -f 1)" = F32 ] || fail "not widened"

expect 3 consolidate "$FROZEN" none --source lp 2>stderr
has stderr 'placeholders'
absent none
