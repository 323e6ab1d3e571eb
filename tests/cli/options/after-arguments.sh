#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate "$TINY" a --dtype bf16
consolidate --dtype bf16 "$TINY" b
consolidate "$TINY" --dtype=bf16 c
cmp a/model.safetensors b/model.safetensors
cmp a/model.safetensors c/model.safetensors
