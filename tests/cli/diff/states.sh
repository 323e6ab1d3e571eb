#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Optimizer states, one and all.
consolidate -q --state exp_avg "$TINY" out
"$UNZERO" diff --state exp_avg "$TINY" out
consolidate -q --state all "$TINY" all
"$UNZERO" diff --state all "$TINY" all
"$UNZERO" diff --state all "$TINY" "$TINY"
expect 1 "$UNZERO" diff --state exp_avg_sq "$TINY" out >told
expect 3 "$UNZERO" diff --state momentum "$TINY" out 2>told
