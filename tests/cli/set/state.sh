#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
"$UNZERO" get "$TINY" emb.weight -o w.npy
"$UNZERO" set "$TINY" emb.weight w.npy --state exp_avg_sq --output new --json >out
has out '"command":"set"' '"state":"exp_avg_sq"' '"lp_updated":false' '"files_changed":1'
"$UNZERO" get new emb.weight --state exp_avg_sq -o got.npy
cmp got.npy w.npy
"$UNZERO" get new emb.weight -o got.npy --force
cmp got.npy w.npy
