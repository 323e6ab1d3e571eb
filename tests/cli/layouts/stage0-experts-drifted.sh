#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Without ZeRO each expert-parallel rank has a copy of what is no expert: one bit that differs is found.
cp -R "$FIXTURES/good-z0-bf16-w2-moe" ck
at=$("$UNZERO" map ck | sed -n '/^emb.weight/{n;s/.*bytes \([0-9]*\)\.\..*/\1/p;}')
file=ck/global_step3/expp_rank_0_mp_rank_00_optim_states.pt
byte=$(dd if="$file" bs=1 skip="$at" count=1 2>/dev/null | od -An -tu1 | tr -d ' ')
# shellcheck disable=SC2059 # the format is the byte
printf "\\$(printf %o $((byte ^ 1)))" | dd of="$file" bs=1 seek="$at" conv=notrunc 2>/dev/null
expect 3 consolidate ck out 2>err
has err 'emb.weight' 'expert-parallel rank 1' 'at [0, 0]'
[ ! -e out ] || fail 'something was written'
