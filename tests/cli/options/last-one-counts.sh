#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate --dtype fp32 --dtype bf16 "$TINY" a
consolidate --dtype bf16 "$TINY" b
cmp a/model.safetensors b/model.safetensors
