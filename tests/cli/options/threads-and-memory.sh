#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What comes out does not depend on them.
consolidate --threads 1 "$TINY" a
consolidate --threads 4 "$TINY" b
consolidate --threads 3 --max-memory 64MiB "$TINY" c
consolidate --threads 0 --max-memory 0 "$TINY" d
for other in b c d; do
    cmp a/model.safetensors "$other/model.safetensors"
done
