#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
for pair in fp32:float32 bf16:bfloat16 fp16:float16; do
    consolidate --dtype "${pair%:*}" "$TINY" "${pair%:*}"
    consolidate --dtype "${pair#*:}" "$TINY" "${pair#*:}"
    cmp "${pair%:*}/model.safetensors" "${pair#*:}/model.safetensors"
done
consolidate "$TINY" default
cmp default/model.safetensors fp32/model.safetensors
consolidate --dtype keep "$TINY" keep
cmp keep/model.safetensors bf16/model.safetensors
[ "$(size bf16/model.safetensors)" -lt "$(size fp32/model.safetensors)" ] || fail "not smaller"
cmp bf16/model.safetensors fp16/model.safetensors >/dev/null && fail "bf16 is fp16"
has fp16/model.safetensors '"dtype":"F16"'
has bf16/model.safetensors '"dtype":"BF16"'
