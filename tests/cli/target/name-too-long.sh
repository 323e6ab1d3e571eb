#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The staging folder's name is longer than the file's; a dry run tells.
name=$(printf '%0228d' 0).safetensors
for option in --dry-run --force; do
    expect 3 consolidate $option "$TINY" "out/$name" 2>stderr
    has stderr "name too long"
    absent out
done
name=$(printf '%0227d' 0).safetensors
consolidate "$TINY" "out/$name"
holds out "$name"
