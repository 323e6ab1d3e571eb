#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
mkdir out
echo mine >out/model.safetensors
consolidate "$TINY" out
