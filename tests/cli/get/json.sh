#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
"$UNZERO" get "$TINY" emb.weight --slice 1:3,0 --json >out
has out '"name":"emb.weight"' '"shape":[2]' '"elements":2' '"stored_dtype":"fp32"' '"state":null'
