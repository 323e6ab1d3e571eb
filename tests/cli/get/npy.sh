#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The same bytes to a file and to a pipe; a file that exists stays, unless --force.
"$UNZERO" get "$TINY" emb.weight -o w.npy
"$UNZERO" get "$TINY" emb.weight -o - | cmp - w.npy
[ "$(size w.npy)" -eq $((128 + 9 * 4 * 4)) ] || fail "size $(size w.npy)"
head -c 128 w.npy | grep -aqF "{'descr': '<f4', 'fortran_order': False, 'shape': (9, 4), }" || fail header
expect 3 "$UNZERO" get "$TINY" odd -o w.npy 2>err
has err 'already holds w.npy'
"$UNZERO" get "$TINY" odd -o w.npy --force
[ "$(size w.npy)" -eq $((128 + 3 * 4)) ] || fail "size $(size w.npy)"
"$UNZERO" get "$TINY" odd -o w.safetensors --dtype bf16
holds . err w.npy w.safetensors
