#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate --dt bf16 --max-s 0 --exclude-f "$FROZEN" out
holds out model.safetensors
