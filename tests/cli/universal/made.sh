#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The tree, latest_universal beside it, an empty folder in its place, and what is told.
mkdir -p root/empty
"$UNZERO" universal --dry-run "$TINY" root/new >out
has out 'nothing was written' '9 parameters (fp32, exp_avg, exp_avg_sq, step)'
absent root/new root/latest_universal

"$UNZERO" universal "$TINY" root/new/ >out
has out 'load_universal'
holds root empty latest_universal new
[ "$(cat root/latest_universal)" = new ] || fail "latest_universal: $(cat root/latest_universal)"
holds root/new mp_rank_00_model_states.pt zero zero_pp_rank_0_mp_rank_00_model_states.pt
holds root/new/zero/emb.weight exp_avg.pt exp_avg_sq.pt fp32.pt step.pt
"$UNZERO" diff "$TINY" root --state all >/dev/null
"$UNZERO" inspect root/new >out
has out universal

# the latest one is named; a folder that is empty may be there
"$UNZERO" universal -q --sync data --threads 1 --tag global_step3 "$TINY" root/empty
[ "$(cat root/latest_universal)" = empty ] || fail "latest_universal was not replaced"
expect 1 "$UNZERO" diff root/new root/empty >/dev/null

# the same bytes whatever the threads and the memory
"$UNZERO" universal -q --sync none --threads 3 --max-memory 12MB "$TINY" again
diff -r root/new again

"$UNZERO" universal --json "$FROZEN" frozen >out 2>err
has out '"command":"universal"' '"dialect":"any"' '"info_injected":true' '"step":true'
has err 'frozen parameters are carried along'
holds frozen mp_rank_00_model_states.pt zero zero_pp_rank_0_mp_rank_00_model_states.pt \
    zero_pp_rank_1_mp_rank_00_model_states.pt

# Under ZeRO 3 DeepSpeed's loader gives all groups what the first has.
"$UNZERO" universal -q --dry-run "$FIXTURES/good-ds0196-z1-fp16-w2-tied-2groups" groups 2>err
has err 'parameter groups differ in weight_decay'
"$UNZERO" universal -q --dry-run "$FIXTURES/good-z2-bf16-w2-2groups-tiny" groups 2>err
[ ! -s err ] || fail "warns: $(cat err)"

# Its loader under ZeRO 3 reads two states by name.
"$UNZERO" universal -q --dry-run "$FIXTURES/good-z3-bf16-w2-amsgrad" states 2>err
has err 'restores no states but exp_avg and exp_avg_sq, so not max_exp_avg_sq'
"$UNZERO" universal -q --dry-run "$FIXTURES/good-z2-bf16-w2-sgd" states 2>err
has err 'needs the states exp_avg and exp_avg_sq, which this optimizer does not have'
