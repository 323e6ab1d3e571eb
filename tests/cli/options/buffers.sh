#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# bf16 buffers are widened on request; integers never.
bf16=$FIXTURES/good-ds0196-z3-bf16-w2-frozen-tied
consolidate -q "$bf16" kept --include scale --include steps
consolidate -q "$bf16" wide --include scale --include steps --buffers fp32
consolidate -q "$bf16" both --include scale --include steps --buffers fp32 --buffers keep
cmp kept/model.safetensors both/model.safetensors
tensors kept/model.safetensors >names
[ "$(grep -c BF16 names)" -eq 2 ] || fail "$(cat names)"
[ "$(grep -c I64 names)" -eq 2 ] || fail "$(cat names)"
tensors wide/model.safetensors >names
[ "$(grep -c F32 names)" -eq 2 ] || fail "$(cat names)"
[ "$(grep -c I64 names)" -eq 2 ] || fail "$(cat names)"
