#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What is made of every good checkpoint is read back as what was read from that, states included.
n=0
for source in "$FIXTURES"/good-*; do
    name=${source##*/}
    case $name in
    good-z0-* | good-stage0-* | good-states-*) continue ;; # refused, see refused.sh
    good-z2-bf16-w2-muon) continue ;;                      # refused, see refused.sh
    esac
    "$UNZERO" universal -q --sync none "$source" uc 2>err || fail "$name: $(cat err)"
    consolidate -q --state all "$source" a.safetensors 2>err || fail "$name: $(cat err)"
    consolidate -q --state all uc b.safetensors 2>err || fail "$name: $(cat err)"
    # what the model states do not list comes at the end: frozen layers, buffers of a pipeline
    cmp -s a.safetensors b.safetensors ||
        "$UNZERO" diff a.safetensors b.safetensors >err || fail "$name: $(cat err)"
    rm -r uc a.safetensors b.safetensors
    n=$((n + 1))
done
[ "$n" -ge 60 ] || fail "only $n checkpoints"
