#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Whenever the signal comes, OUT is whole or untouched, and nothing half done stays.
consolidate -q --threads 1 "$FIXTURES/good-z2-bf16-w2-llama" whole
for round in 1 2 3 4 5 6 7 8 9 10 11 12; do
    rm -rf out
    code=0
    "$UNZERO" consolidate -q --threads 1 "$FIXTURES/good-z2-bf16-w2-llama" out 2>stderr &
    for pause in $(seq "$round"); do
        : "$pause"
        sleep 0.002
    done
    kill -TERM $! 2>/dev/null || true
    wait $! || code=$?
    case $code in
    0 | 143) ;;
    *) fail "exit code $code: $(cat stderr)" ;;
    esac
    [ "$code" -eq 143 ] || [ -e out/model.safetensors ] || fail "done, but nothing there"
    [ ! -e out ] || {
        holds out model.safetensors
        cmp whole/model.safetensors out/model.safetensors
    }
done
