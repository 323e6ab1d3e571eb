#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
cp -R "$TINY" ckpt
chmod -R u+w ckpt
mkdir ckpt/.unzero-partial
: >ckpt/global_step4/mp_rank_00_model_states.pt.tmp
expect 0 "$UNZERO" verify ckpt >text
has text "UZV004 (leftover)" "ckpt/.unzero-partial" "mp_rank_00_model_states.pt.tmp" "2 warnings"
