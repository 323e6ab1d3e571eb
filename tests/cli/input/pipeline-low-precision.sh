#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A pipeline's low-precision weights: from layer files, a tied layer under its own name, tensor ranks
# joined.
for case in z1-fp32-pp2-tp2-dp2 z1-bf16-pp2-dp2-tied; do
    consolidate "$FIXTURES/good-$case" lp --force --source lp --strict 2>stderr
    [ ! -s stderr ]
    grep -aq '"tied_modules.emb.weight"' lp/model.safetensors
done
# in fp32 both have the same size
consolidate "$FIXTURES/good-z1-fp32-pp2-tp2-dp2" a
consolidate "$FIXTURES/good-z1-fp32-pp2-tp2-dp2" b --source lp
[ "$(wc -c <a/model.safetensors)" -eq "$(wc -c <b/model.safetensors)" ]
# the user's own rules count in place of what is recorded
echo '{"tp_replicated_parameter_patterns": [".*"]}' >map.json
expect 3 consolidate "$FIXTURES/good-z1-bf16-tp2" c --tp-map map.json 2>stderr
has stderr 'is to be the same on all ranks, but tensor rank 1 holds another value than tensor rank 0'
[ ! -e c/model.safetensors ]
