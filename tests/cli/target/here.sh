#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate "$TINY" . >../stdout
has ../stdout "./model.safetensors: 11 tensors"
holds . model.safetensors
