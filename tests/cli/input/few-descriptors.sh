#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Four ranks, many output files, and hardly any file descriptors to open them with.
consolidate --quiet --max-shard-size 1 "$FIXTURES/good-z3-bf16-w4-hpz" plenty
# shellcheck disable=SC3045 # every shell in use has it
ulimit -n 16
consolidate --quiet --threads 2 --max-shard-size 1 "$FIXTURES/good-z3-bf16-w4-hpz" few
for file in plenty/*; do
    cmp "$file" "few/${file##*/}" || exit 1
done
