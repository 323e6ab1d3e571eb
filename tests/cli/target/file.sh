#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# One file, whatever --max-shard-size says.
consolidate "$TINY" folder
consolidate --max-shard-size 1 "$TINY" weights.safetensors
consolidate "$TINY" folder/other.safetensors
cmp folder/model.safetensors weights.safetensors
holds folder model.safetensors other.safetensors
holds . folder weights.safetensors
