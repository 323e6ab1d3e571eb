#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Compressed shards spread over folders give what the plain ones in one folder give, and no
# temporary file: the folder for these cannot even be written to.
tag=global_step4
mkdir -p a b/$tag
cp -R "$FIXTURES/good-container-zst/." a
chmod -R u+w a
mv a/$tag/*rank_1*optim_states.pt.zst b/$tag
for threads in 1 4; do
    TMPDIR=/nonexistent consolidate --threads "$threads" a out$threads --input-dir b
    consolidate "$TINY" plain$threads
    cmp out$threads/model.safetensors plain$threads/model.safetensors
done
TMPDIR=/nonexistent consolidate --state all a all --input-dir b
consolidate --state all "$TINY" plain
cmp all/model.safetensors plain/model.safetensors
