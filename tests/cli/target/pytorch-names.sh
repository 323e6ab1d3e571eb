#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# One file of that name, in the format that the name says.
consolidate --format pt "$TINY" folder
for name in pytorch_model.bin weights.pt weights.pth; do
    consolidate --quiet "$TINY" "$name"
done
cmp pytorch_model.bin folder/pytorch_model.bin
holds . folder pytorch_model.bin weights.pt weights.pth
# An existing folder is a folder, whatever its name says.
mkdir there.bin
consolidate --format pt "$TINY" there.bin
consolidate --format safetensors "$TINY" there.bin
holds there.bin model.safetensors pytorch_model.bin
cmp there.bin/pytorch_model.bin pytorch_model.bin
