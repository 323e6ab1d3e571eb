#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate --format safetensors "$TINY" out
holds out model.safetensors
consolidate --format pt "$TINY" pt
holds pt pytorch_model.bin
