#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# As on machines with disks of their own: each rank's shard is in another folder.
tag=global_step3
source=$FIXTURES/good-ds0145-z2-bf16-w3-tied-frozen
for rank in 0 1 2; do
    mkdir -p "node$rank/$tag"
    cp "$source/$tag"/*zero_pp_rank_"$rank"_*optim_states.pt "node$rank/$tag"
done
cp "$source/$tag"/mp_rank_00_model_states.pt node0/$tag
cp "$source/latest" node0
expect 3 consolidate node0 out 2>stderr
has stderr "Expected 3 of '*_optim_states.pt' under" '--input-dir'
consolidate node0 out --input-dir node1 --input-dir=node2
consolidate "$source" whole
cmp out/model.safetensors whole/model.safetensors

consolidate node0/$tag tags --input_dir node1/$tag --input_dir node2/$tag
cmp tags/model.safetensors whole/model.safetensors
expect 3 consolidate node0 none --input-dir node1 --input-dir node3 2>stderr
has stderr node3
absent none
