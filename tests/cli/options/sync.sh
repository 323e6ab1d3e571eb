#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
for when in none data full; do
    "$UNZERO" consolidate --sync $when "$TINY" $when
    cmp none/model.safetensors $when/model.safetensors
done
