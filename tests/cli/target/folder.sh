#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate "$TINY" new
consolidate "$TINY" deep/down/new
mkdir there
consolidate "$TINY" there
consolidate "$TINY" slash/
for folder in new deep/down/new there slash; do
    holds "$folder" model.safetensors
    cmp "$folder/model.safetensors" new/model.safetensors
done
