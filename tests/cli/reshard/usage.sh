#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
expect 2 "$UNZERO" reshard "$TINY" new 2>err
has err '--dp N is missing'
expect 2 "$UNZERO" reshard "$TINY" --dp 2 2>err
has err 'OUT is missing'
expect 2 "$UNZERO" reshard "$TINY" new --dp 0 2>err
has err 'a world has at least one rank'
expect 2 "$UNZERO" reshard "$TINY" new --dp 2 --stage 4 2>err
has err '--stage'
mkdir there
: >there/something
expect 3 "$UNZERO" reshard "$TINY" there --dp 2 2>err
has err 'exists'
expect 3 "$UNZERO" reshard "$FIXTURES/good-z1-bf16-tp2" new --dp 2 2>err
has err 'tensor or pipeline parallelism'
expect 3 "$UNZERO" reshard "$TINY" new --dp 2000000 2>err
has err 'max_shards'
absent new new.unzero-partial.*
