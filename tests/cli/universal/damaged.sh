#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Whatever is missing or does not fit is named, and nothing is written.
fresh()
{
    rm -rf uc
    cp -r "$FIXTURES/uc-z2-bf16-w2-2groups-tiny" uc
    tag=uc/global_step4_universal
    zero=$tag/zero
}
refuse()
{
    expect 3 consolidate --state all uc out 2>err
    has err "$@"
    absent out
}
fresh
rm -r "$zero/emb.weight"
refuse emb.weight
fresh
rm "$zero/emb.weight/fp32.pt"
refuse 'emb.weight: holds no fp32.pt'
fresh
cp "$zero/odd/fp32.pt" "$zero/emb.weight/fp32.pt"
refuse emb.weight/fp32.pt
fresh
head -c 700 "$FIXTURES/uc-z2-bf16-w2-2groups-tiny/global_step4_universal/zero/odd/fp32.pt" >"$zero/odd/fp32.pt"
refuse odd/fp32.pt
fresh
: >"$zero/odd/exp_avg.pt"
refuse odd/exp_avg.pt
fresh
rm "$tag"/mp_rank_00_model_states.pt
refuse model_states.pt
fresh
rm -r "$tag"
refuse latest_universal
fresh
rm -r "$zero"
expect 3 consolidate uc out 2>err
absent out
