#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# --quiet takes away progress and sums; what was asked for is told.
for command in 'inspect --tensors' map 'get --slice 0'; do
    # shellcheck disable=SC2086 # an option, too
    set -- $command
    [ "$1" != get ] || set -- "$@" "$TINY" emb.weight
    [ "$1" = get ] || set -- "$@" "$TINY"
    "$UNZERO" "$@" >loud
    "$UNZERO" "$@" --quiet >quiet
    [ -s loud ] || fail "$1 says nothing"
    cmp loud quiet
done
consolidate -q --dtype bf16 "$TINY" out
expect 1 "$UNZERO" diff -q "$TINY" out >different
has different 'rounded  emb.weight'
if grep -q '^different' different; then fail "a sum: $(cat different)"; fi
expect 1 "$UNZERO" verify -q "$FIXTURES/bad-empty-file" >found
has found 'error UZ'
if grep -q 'sound' found; then fail "a sum: $(cat found)"; fi
