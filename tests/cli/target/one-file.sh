#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate --max-shard-size 0 "$TINY" out
holds out model.safetensors
