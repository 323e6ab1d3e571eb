#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate -q --state all --strip-prefix blocks. --exclude '\.1\.|^1' "$FROZEN" out
tensors out/model.safetensors >names
has names fp32/0.up.weight exp_avg/0.up.weight exp_avg_sq/0.up.weight fp32/0.steps
if grep -e exp_avg/0.steps -e '\.1\.' names; then
    fail "$(cat names)"
fi
consolidate -q "$FROZEN" weights
[ "$(tensor out/model.safetensors fp32/0.up.weight)" = \
    "$(tensor weights/model.safetensors blocks.0.up.weight)" ] || fail "other data"
