#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A command line of zero_to_fp32.py works as it is.
consolidate "$TINY" out --max_shard_size 500 --safe_serialization -t global_step3 \
    --exclude_frozen_parameters
[ -e out/model.safetensors.index.json ] || fail "one file"
