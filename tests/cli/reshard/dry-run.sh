#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Files, partitions, padding and bytes are told, and are those of the run; nothing is written.
"$UNZERO" reshard "$TINY" new --dp 4 --dry-run >out
has out 'group 0: 4 parameters, partitions of 30 elements, 0 of padding' \
    'group 1: 5 parameters, partitions of 6 elements, 6 of padding, one rank has nothing else' \
    'global_step4/bf16_zero_pp_rank_3_mp_rank_00_optim_states.pt' 'would be written'
absent new new.unzero-partial.*
"$UNZERO" reshard "$TINY" new --dp 4 --dry-run --json >dry.json
"$UNZERO" reshard "$TINY" new --dp 4 --sync none --json >run.json
has dry.json '"dry_run":true' '"world_size":4' '"padding_elements":6'
strip='s/"dry_run":[a-z]*,//; s/"seconds":[0-9.]*,//'
sed "$strip" dry.json >a
sed "$strip" run.json >b
cmp a b
for file in new/*/*; do
    has run.json "{\"name\":\"${file#new/}\",\"bytes\":$(wc -c <"$file" | tr -d ' ')}"
done
