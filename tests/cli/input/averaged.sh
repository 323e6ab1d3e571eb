#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Parameters that are averaged over tensor ranks: the mean of equal values is the value, whatever the threads,
# the buffers and the dtype.
source=$FIXTURES/good-z1-bf16-tp2
cat >map.json <<'EOF'
{"parameter_to_average_patterns": ["model.norm", "model.layers.\\d+.(input|post_attention)_layernorm", "model.embed"],
 "parameter_with_row_parallelism_patterns": [".*(o|down)_proj.weight$"]}
EOF
for dtype in fp32 bf16; do
    consolidate "$source" plain --dtype "$dtype" --force
    for threads in 1 3; do
        consolidate "$source" mean --dtype "$dtype" --threads "$threads" --tp-map map.json --force 2>stderr
        [ ! -s stderr ]
        cmp plain/model.safetensors mean/model.safetensors
    done
done
consolidate "$source" states --state all
consolidate "$source" mean --state all --tp-map map.json --force
cmp states/model.safetensors mean/model.safetensors
