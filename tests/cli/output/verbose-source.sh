#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every command that reads one checkpoint says with --verbose which it is.
"$UNZERO" get -v "$TINY" emb.weight 2>get.err >out
"$UNZERO" map -v "$TINY" 2>map.err >out
"$UNZERO" get -o w.npy "$TINY" emb.weight
"$UNZERO" set -v "$TINY" emb.weight w.npy --dry-run --output new 2>set.err >out
consolidate -v -n "$TINY" new 2>consolidate.err >out
for command in get map set consolidate; do
    has "$command.err" "Processing zero checkpoint '$TINY', tag 'global_step4'" \
        'Detected checkpoint of type zero stage 2, world_size: 2' \
        'Parsing checkpoint created by deepspeed=='
done
consolidate -q "$TINY" weights
"$UNZERO" get -v weights emb.weight 2>stderr >out # no checkpoint
[ ! -s stderr ] || fail "$(cat stderr)"
"$UNZERO" inspect -v "$TINY" >verbose
"$UNZERO" inspect --tensors "$TINY" >tensors
cmp verbose tensors
