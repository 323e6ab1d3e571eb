#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
for text in 0 5GB 5gb 1.5GB 4GiB 1TB 1TiB 512MiB 18446744073709551615 18446744TB; do
    "$UNZERO" consolidate --json --dry-run --max-shard-size "$text" "$TINY" out >stdout
    has stdout '"files":[{"name":"model.safetensors",'
done
