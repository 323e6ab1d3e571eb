#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What consolidate refuses is told of, and why it would be refused.
"$UNZERO" inspect "$FIXTURES/unsupported-z2-autoep-tp2" >out
has out 'consolidate would refuse' 'AutoEP' 'ep 2'
"$UNZERO" inspect "$FIXTURES/bad-truncated-shard" >out
has out 'damaged ' 'rank_1_mp_rank_00_optim_states.pt' 'consolidate would refuse'
