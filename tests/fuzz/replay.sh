#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Feeds the saved corpora and the fixtures' files to the fuzz targets.
dir=${srcdir:-.}

# replay PROGRAM PATH...
replay() {
    program=${builddir:-.}/tests/fuzz/$1
    shift
    if ! out=$("$program" "$@" 2>&1); then
        printf '%s\n' "$out" | tail -n 40
        exit 1
    fi
    printf '%s\n' "$out" | tail -n 1
}

replay replay "$dir/tests/fuzz/corpus" "$dir"/fixtures/*/*/
replay replay_safetensors "$dir/tests/fuzz/corpus-safetensors" "$dir"/fixtures/*/*.safetensors
