#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A parameter that the boundary between two ranks cuts.
"$UNZERO" map "$TINY" --param blocks.0.ln.bias >out
has out 'blocks.0.ln.bias  parameter fp32 [4]  4 elements' 'rank    0  bytes' 'rank    1  bytes'
[ "$(wc -l <out)" -eq 3 ] || fail "$(cat out)"
"$UNZERO" map "$TINY" --param 'up\.(weight|bias)$' --state exp_avg >out
has out 'blocks.0.up.weight (exp_avg)  state' 'blocks.0.up.bias (exp_avg)  state'
