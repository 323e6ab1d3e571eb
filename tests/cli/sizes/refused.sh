#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
for text in '' GB -1 +5 -5GB 5G 5X 5GBs 5e9 0x10 1.GB .5GB 1.5 1.5B 1.0000001GB 5,5GB ' 5GB' '5GB ' \
    18446744073709551616 18446745TB 16777216TiB; do
    expect 2 "$UNZERO" consolidate --max-memory "$text" "$TINY" out 2>stderr
    has stderr "unzero: --max-memory '$text': " "Try 'unzero consolidate --help'."
done
absent out
