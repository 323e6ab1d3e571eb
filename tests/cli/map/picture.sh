#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
"$UNZERO" map "$TINY" --rank 1 >out
has out '  |AAAA' 'blocks.0.ln.bias  parameter fp32 [4]  <2..4 of 4' 'padding'
if grep -q pp_rank_0 out; then fail "another rank's files"; fi
