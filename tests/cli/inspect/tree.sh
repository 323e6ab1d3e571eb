#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Values of a file; what was shown before is a reference.
"$UNZERO" inspect --tree "$TINY" >out
has out '"module": ' '"param_shapes": list of 2' 'tensor bf16'
"$UNZERO" inspect --tree "$TINY/global_step4/mp_rank_00_model_states.pt" >same
cmp out same
"$UNZERO" inspect --tree "$TINY" bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt >out
has out '"single_partition_of_fp32_groups": list of 2' 'deepspeed.' '(line '
expect 3 "$UNZERO" inspect --tree "$TINY/expected.safetensors"
