#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
expect 3 consolidate --state momentum "$TINY" out 2>stderr
has stderr "the optimizer keeps no state 'momentum'; there are: exp_avg, exp_avg_sq"
# saved before the first step
none=$FIXTURES/good-z2-bf16-w2-no-step
expect 3 consolidate --state exp_avg "$none" out 2>stderr
has stderr 'there are no optimizer states in this checkpoint'
expect 3 consolidate --strict --state all "$none" out 2>stderr
has stderr 'there are no optimizer states in this checkpoint' --strict
expect 2 consolidate --source lp --state all "$TINY" out 2>stderr
has stderr '--source lp' 'no optimizer states'
expect 2 "$UNZERO" get --source lp --state exp_avg "$TINY" emb.weight 2>stderr
has stderr '--source lp' 'no optimizer states'
expect 2 "$UNZERO" map --source lp --state exp_avg "$TINY" 2>stderr
has stderr '--source lp' 'no optimizer states'
expect 2 "$UNZERO" diff --source lp --state exp_avg "$TINY" "$TINY" 2>stderr
has stderr '--source lp' 'no optimizer states'
absent out
consolidate --state all "$none" out 2>stderr
has stderr 'unzero: warning: there are no optimizer states in this checkpoint: only weights are written'
