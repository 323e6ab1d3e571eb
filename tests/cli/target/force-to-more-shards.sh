#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate "$TINY" out
consolidate -f --max-shard-size 300 "$TINY" out
consolidate --max-shard-size 300 "$TINY" fresh
[ "$(ls out)" = "$(ls fresh)" ] || fail "$(ls out)"
for file in fresh/*; do
    cmp "$file" "out/${file#fresh/}"
done
