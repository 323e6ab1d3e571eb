#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A trainer's files come along; random states are named for the new world.
cp -r "$TINY" old
rm old/case.json old/expected.safetensors
echo state >old/trainer_state.json
echo note >old/global_step4/note.txt
echo random 0 >old/rng_state_0.pth
echo random 1 >old/rng_state_1.pth
echo old >old/latest_universal
"$UNZERO" reshard old three --dp 3 --sync none >out
has out 'random states of 1 new rank (rng_state): those of rank 0'
holds three global_step4 latest rng_state_0.pth rng_state_1.pth rng_state_2.pth trainer_state.json
cmp three/rng_state_1.pth old/rng_state_1.pth
cmp three/rng_state_2.pth old/rng_state_0.pth
cmp three/global_step4/note.txt old/global_step4/note.txt
"$UNZERO" reshard three one --dp 1 --sync none --json >out
has out '"random_states_copied":0'
holds one global_step4 latest rng_state.pth trainer_state.json
cmp one/rng_state.pth old/rng_state_0.pth
"$UNZERO" reshard one two --dp 2 --sync none -q
holds two global_step4 latest rng_state_0.pth rng_state_1.pth trainer_state.json
# given by the tag folder, the checkpoint has no root
"$UNZERO" reshard old/global_step4 bare --dp 2 --sync none -q
holds bare global_step4 latest
