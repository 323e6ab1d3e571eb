#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# As zero_to_fp32.py spells them; in any mixture.
consolidate --max-shard-size 300B --exclude-frozen "$FROZEN" a
consolidate --max_shard_size 300B --exclude_frozen_parameters "$FROZEN" b
consolidate --max_shard-size=300B --exclude-frozen_parameters "$FROZEN" c
for file in a/*; do
    cmp "$file" "b/${file#a/}"
    cmp "$file" "c/${file#a/}"
done
