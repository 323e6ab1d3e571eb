#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What is made of every good checkpoint is read back as what was read from that, states included.
n=0
for source in "$FIXTURES"/good-*; do
    name=${source##*/}
    case $name in
    good-z0-* | good-stage0-* | good-states-*) continue ;; # refused, see refused.sh
    good-z1-bf16-pp2-dp2-tied) continue ;; # its frozen layer and buffers stand in layer files
    good-*moe*) continue ;;                # experts of local names
    esac
    "$UNZERO" universal -q --sync none "$source" uc 2>err || fail "$name: $(cat err)"
    consolidate -q --state all "$source" a.safetensors 2>err || fail "$name: $(cat err)"
    consolidate -q --state all uc b.safetensors 2>err || fail "$name: $(cat err)"
    cmp a.safetensors b.safetensors || fail "$name is another one"
    rm -r uc a.safetensors b.safetensors
    n=$((n + 1))
done
[ "$n" -ge 50 ] || fail "only $n checkpoints"
