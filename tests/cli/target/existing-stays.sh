#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A refusal changes nothing; an old shard of the same family counts as existing.
mkdir out
for name in model.safetensors model.safetensors.index.json model-00001-of-00002.safetensors; do
    echo mine >"out/$name"
    expect 3 consolidate "$TINY" out 2>stderr
    has stderr "already holds $name"
    holds out "$name"
    [ "$(cat "out/$name")" = mine ] || fail "$name changed"
    rm "out/$name"
done
echo mine >weights.safetensors
expect 3 consolidate "$TINY" weights.safetensors 2>stderr
has stderr "already holds weights.safetensors"
[ "$(cat weights.safetensors)" = mine ] || fail "the file changed"
