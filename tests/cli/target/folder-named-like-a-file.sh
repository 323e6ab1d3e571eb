#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
mkdir out.safetensors
consolidate "$TINY" out.safetensors
holds out.safetensors model.safetensors
