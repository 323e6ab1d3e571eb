#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Names that would become folders although a file, or a stream, was meant.
for name in model.gguf model.BIN model.SafeTensors model.ckpt out/model.safetensor a.index.json; do
    expect 2 consolidate "$TINY" "$name" 2>stderr
    has stderr "$name: is named like a file of a format that is not written" '*.safetensors, *.bin'
done
expect 2 consolidate "$TINY" - 2>stderr
has stderr 'not written to standard output'
for name in model.safetensors model.gguf -; do
    expect 2 "$UNZERO" universal "$TINY" "$name" 2>stderr
    has stderr "'$name' is no name of a folder"
    expect 2 "$UNZERO" reshard --dp 1 "$TINY" "$name" 2>stderr
    has stderr "'$name' is no name of a folder"
done
rm stderr
holds .
# Folders are called so, too.
for name in llama-3.1 run.old ./- model.gguf/; do
    consolidate "$TINY" "$name"
    [ -e "$name/model.safetensors" ] || fail "no folder $name"
done
consolidate --force "$TINY" model.gguf # it is one now
