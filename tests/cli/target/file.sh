#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# One file; --max-shard-size, which makes several, is a contradiction unless it is 0.
consolidate "$TINY" folder
expect 2 consolidate --max-shard-size 1 "$TINY" weights.safetensors 2>stderr
has stderr "--max-shard-size makes several files, but 'weights.safetensors' names one"
rm stderr
consolidate --max-shard-size 0 "$TINY" weights.safetensors
consolidate "$TINY" folder/other.safetensors
cmp folder/model.safetensors weights.safetensors
holds folder model.safetensors other.safetensors
holds . folder weights.safetensors
