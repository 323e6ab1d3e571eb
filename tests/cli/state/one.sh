#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The values are compared in tests/test_states.c; here is what is said.
consolidate --state exp_avg -v "$FROZEN" out >stdout 2>/dev/null
has stdout '8 tensors' 'left out: 9 names without that state, as of buffers' '  blocks.0.steps' \
    '  blocks.1.up.weight' '  head.weight is emb.weight'
consolidate --json --state exp_avg --rename 's/$/.m/' "$FROZEN" renamed >stdout
has stdout '"why":"stateless"' '{"from":"emb.weight","to":"emb.weight.m"}'
consolidate -q --dtype bf16 --state exp_avg "$FROZEN" half
tensors half/model.safetensors >names
[ "$(grep -c BF16 names)" -eq 8 ] || fail "$(cat names)"
