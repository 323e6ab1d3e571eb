#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Not only the first fault: an empty file, a dangling link, a leftover rank.
cp -R "$TINY" ckpt
chmod -R u+w ckpt
optim=ckpt/global_step4/bf16_zero_pp_rank
: >"${optim}_1_mp_rank_00_optim_states.pt"
cp "${optim}_0_mp_rank_00_optim_states.pt" "${optim}_2_mp_rank_00_optim_states.pt"
ln -sf nowhere ckpt/global_step4/mp_rank_00_model_states.pt
expect 1 "$UNZERO" verify ckpt >text
has text "UZV020 (empty-file), dp rank 1" "UZV021 (unreadable-file), mp rank 0" "UZV026 (swapped-shard), dp rank 2"
