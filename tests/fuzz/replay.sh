#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Feeds the saved corpus and all shards of the fixtures to the fuzz target.
dir=${srcdir:-.}
if ! out=$("${builddir:-.}/tests/fuzz/replay" "$dir/tests/fuzz/corpus" "$dir"/fixtures/*/*/ 2>&1); then
    printf '%s\n' "$out" | tail -n 40
    exit 1
fi
printf '%s\n' "$out" | tail -n 1
