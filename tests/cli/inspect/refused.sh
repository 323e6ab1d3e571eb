# What consolidate refuses is told of, and why it would be refused.
cd "$FIXTURES"
"$UNZERO" inspect unsupported-moe >"$OLDPWD/out"
cd "$OLDPWD"
has out 'consolidate would refuse' 'experts' 'ep 2'
"$UNZERO" inspect "$FIXTURES/bad-truncated-shard" >out
has out 'damaged ' 'rank_1_mp_rank_00_optim_states.pt' 'consolidate would refuse'
