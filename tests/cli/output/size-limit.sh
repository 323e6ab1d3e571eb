#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A limit on the size of files is an error that names it, and nothing is left.
limited()
{
    (ulimit -f 8 && expect 3 "$UNZERO" "$@" 2>err.txt)
    has err.txt 'File too large'
    rm err.txt
    [ -z "$(ls -A)" ] || fail "$1 left $(ls -A)"
}
llama=$FIXTURES/good-z2-bf16-w2-llama
limited consolidate "$llama" out/
limited reshard "$llama" out --dp 3
limited universal "$llama" out
