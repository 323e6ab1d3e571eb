#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate --untie "$FROZEN" out >stdout
has stdout '18 tensors'
if grep tied stdout; then
    fail "nothing is tied"
fi
[ "$(tensor out/model.safetensors emb.weight)" = "$(tensor out/model.safetensors head.weight)" ] ||
    fail "other data"
consolidate -q "$FROZEN" tied
[ "$(size out/model.safetensors)" -gt "$(size tied/model.safetensors)" ] || fail "not larger"
