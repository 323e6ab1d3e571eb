#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Gb may be bits: some tools of this field read it so.
for text in 5Gb 5Mb 5Kb 5Tb 5Gib; do
    expect 2 "$UNZERO" consolidate --max-shard-size "$text" "$TINY" out 2>stderr
    has stderr "unzero: --max-shard-size '$text': " "may mean bits" "Try 'unzero consolidate --help'."
done
absent out
