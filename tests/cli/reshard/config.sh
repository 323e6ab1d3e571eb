#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The configuration decides the layout; contradictions are told.
cat >z3.json <<'JSON'
{"zero_optimization": {"stage": 3, "sub_group_size": 4e1}, "bf16": {"enabled": "auto"},
 "train_batch_size": 16, "train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 1}
JSON
"$UNZERO" reshard "$TINY" new --dp 2 --ds-config z3.json --dry-run >out 2>err
has out 'layout: ZeRO stage 3, 2 ranks, sub_group_size 40' 'sub-group 2:'
has err 'train_batch_size 16 does not fit train_micro_batch_size_per_gpu 2' '2 ranks'
"$UNZERO" reshard "$TINY" new --dp 8 --ds-config z3.json --dry-run >out 2>err
[ ! -s err ] || fail "warns: $(cat err)"
expect 3 "$UNZERO" reshard "$TINY" new --dp 2 --stage 2 --ds-config z3.json 2>err
has err '--stage 2, but z3.json configures stage 3'
for part in '"stage": 0' '"stage": "auto", "offload_optimizer": {"device": "nvme"}' \
    '"stage": 3, "mics_shard_size": 2' '"stage": "two"' '"stage": 2, "sub_group_size": -1'; do
    echo "{\"bf16\": {\"enabled\": true}, \"zero_optimization\": {$part}}" >bad.json
    expect 3 "$UNZERO" reshard "$TINY" new --dp 2 --ds-config bad.json 2>err
    [ -s err ] || fail "nothing was said about $part"
done
echo '{"fp16": {"enabled": true}, "zero_optimization": {"stage": 2}}' >fp16.json
expect 3 "$UNZERO" reshard "$TINY" new --dp 2 --ds-config fp16.json 2>err
has err 'configures fp16, the checkpoint is of bf16 training'
echo '[1]' >list.json
expect 3 "$UNZERO" reshard "$TINY" new --dp 2 --ds-config list.json 2>err
has err 'list.json' 'is no JSON object'
absent new new.unzero-partial.*

# What is left to be found out becomes what it was, and the new checkpoint can be a source again.
cat >auto.json <<'JSON'
{"zero_optimization": {"stage": 2, "round_robin_gradients": "auto"}, "bf16": {"enabled": "auto"},
 "train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto"}
JSON
"$UNZERO" reshard -q "$TINY" auto --dp 2 --ds-config auto.json
"$UNZERO" reshard -q auto again --dp 3
if grep -rq auto auto/global_step*; then fail 'a value of the configuration is "auto"'; fi

# Every name that DeepSpeed has for fp32 means BF16_Optimizer, whose buffers have no round robin.
for dtype in fp32 float32 float torch.float32; do
    echo "{\"data_types\": {\"grad_accum_dtype\": \"$dtype\"}, \"bf16\": {\"enabled\": true},
        \"zero_optimization\": {\"stage\": 1}}" >"$dtype.json"
    "$UNZERO" reshard "$TINY" new --dp 2 --ds-config "$dtype.json" --dry-run >out
    has out 'layout: ZeRO stage 1, 2 ranks, BF16_Optimizer'
done

# Elastic checkpoints are of ZeRO 1 and 2; a universal one made of them has no hyperparameters.
echo '{"bf16": {"enabled": true}, "zero_optimization": {"stage": 3, "elastic_checkpoint": true}}' \
    >elastic.json
expect 3 "$UNZERO" reshard "$TINY" new --dp 2 --ds-config elastic.json 2>err
has err 'no elastic_checkpoint under ZeRO 3'
"$UNZERO" universal -q --sync none "$FIXTURES/good-z1-fp16-w2-elastic" uc 2>err
expect 3 "$UNZERO" reshard uc new --dp 2 2>err
has err "no param_groups with the optimizer's hyperparameters"
absent new new.unzero-partial.*
