#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
for what in keep drop; do
    "$UNZERO" consolidate --cache $what "$TINY" $what
    cmp keep/model.safetensors $what/model.safetensors
done
