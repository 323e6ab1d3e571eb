#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What is stored exactly can be told exactly; an int64 counter beyond 2^24 too.
"$UNZERO" get "$TINY" blocks.0.steps >out
has out 'blocks.0.steps: buffer int64 [], 1 element' 'min 16777221  max 16777221' 'NaN 0  Inf 0'
"$UNZERO" get "$TINY" emb.weight --state exp_avg >out
has out 'emb.weight (exp_avg): state fp32 [9, 4], 36 elements'
