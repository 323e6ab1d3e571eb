#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# To four ranks, to one in another stage, and back: the same weights and states.
consolidate "$TINY" whole.safetensors --state all -q
"$UNZERO" reshard "$TINY" four --dp 4 --sync none >out
has out 'layout: ZeRO stage 2, 4 ranks' 'four: 5 files'
holds four case.json expected.safetensors global_step4 latest # what stands beside comes along
[ "$(cat four/latest)" = global_step4 ] || fail "latest: $(cat four/latest)"
"$UNZERO" reshard four one --dp 1 --stage 3 --sync none -q >out
[ ! -s out ] || fail "-q says: $(cat out)"
holds one/global_step4 bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt \
    zero_pp_rank_0_mp_rank_00_model_states.pt
"$UNZERO" reshard one two --dp 2 --stage 2 --sync none -q
for folder in four one two; do
    "$UNZERO" verify --data "$folder" >out
    has out 'sound: 0 errors, 0 warnings'
    consolidate "$folder" "$folder.safetensors" --state all -q
    cmp whole.safetensors "$folder.safetensors"
done
