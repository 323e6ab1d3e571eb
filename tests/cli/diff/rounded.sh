#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Rounded to bf16: different, but equal after rounding.
consolidate -q --dtype bf16 "$FROZEN" out
expect 1 "$UNZERO" diff "$FROZEN" out >told
has told 'rounded  emb.weight' 'different: 9 equal, 8 equal after rounding'
"$UNZERO" diff --ulp 0 "$FROZEN" out
"$UNZERO" diff --rtol 0.00390625 "$FROZEN" out >told
has told 'same: '
expect 1 "$UNZERO" diff --rtol 0.001 "$FROZEN" out >told
