#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Nothing is made when anything is wrong.
"$UNZERO" get "$TINY" emb.weight -o w.npy
"$UNZERO" get "$TINY" blocks.0.steps -o steps.npy
expect 3 "$UNZERO" set "$TINY" odd w.npy --output new 2>err
has err 'has values of shape [9, 4] (36 elements), odd is [3] (3 elements)'
expect 3 "$UNZERO" set "$TINY" nobody w.npy --output new 2>err
has err "there is no tensor 'nobody'"
expect 3 "$UNZERO" set "$TINY" emb.weight w.npy --state nonsense --output new 2>err
has err "keeps no state 'nonsense'"
expect 3 "$UNZERO" set "$FIXTURES/good-container-deflated" emb.weight w.npy --output new 2>err
has err 'compressed zip entries'
head -c 100 w.npy >cut.npy
expect 3 "$UNZERO" set "$TINY" emb.weight cut.npy --output new 2>err
has err cut.npy
head -c 200 w.npy >cut.npy
expect 3 "$UNZERO" set "$TINY" emb.weight cut.npy --output new 2>err
has err "does not fit the file's size"
expect 2 "$UNZERO" set "$TINY" emb.weight w.npy 2>err
has err '--output NEW is missing'
expect 2 "$UNZERO" set "$TINY" emb.weight --output new 2>err
has err 'FILE is missing'
"$UNZERO" set "$TINY" emb.weight w.npy --output new --dry-run >out
has out 'emb.weight: 36 elements in 2 fragments of 2 files'
mkdir there
: >there/something
expect 3 "$UNZERO" set "$TINY" emb.weight w.npy --output there 2>err
has err 'exists and is not empty; give the name of a new folder'
expect 3 "$UNZERO" set "$TINY" blocks.0.steps w.npy --output new 2>err
has err 'has values of shape'
"$UNZERO" set "$TINY" blocks.0.steps steps.npy --output new -q
absent new.unzero-partial.*
cp -r "$TINY" own
expect 3 "$UNZERO" set own emb.weight w.npy --output own/global_step4/new2 2>err
has err 'lies inside the tag folder'
