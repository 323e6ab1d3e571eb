#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
for n in -1 1.5 x '' 1025 99999999999999999999 ' 1' 0x10; do
    expect 2 "$UNZERO" consolidate --threads "$n" a b 2>stderr
    has stderr "unzero: --threads '$n': not a whole number from 0 to 1024"
done
