#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# `latest` names global_step4; the tag folder itself will do as well.
consolidate "$TINY" latest
consolidate --tag global_step4 "$TINY" four
consolidate -t global_step3 "$TINY" three
consolidate "$TINY/global_step3" folder
cmp latest/model.safetensors four/model.safetensors
cmp three/model.safetensors folder/model.safetensors
cmp three/model.safetensors four/model.safetensors >/dev/null && fail "same step"
true
