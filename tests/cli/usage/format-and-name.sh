#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
expect 2 "$UNZERO" consolidate --format pt "$TINY" a.safetensors 2>stderr
has stderr "--format pt, but 'a.safetensors' is named as a file of the other one"
expect 2 "$UNZERO" consolidate --format safetensors "$TINY" a.bin 2>stderr
has stderr "--format safetensors, but 'a.bin'"
absent a.safetensors a.bin
consolidate --format safetensors "$TINY" a.bin/
consolidate --format pt "$TINY" a.pth
