#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# One object in one line.
"$UNZERO" inspect --json "$TINY" >out
[ "$(wc -l <out)" -eq 1 ]
has out '"schema":1,"command":"inspect"' '"kind":"zero"' '"zero_stage":2' '"refusal":null' '"dead_bytes":'
expect 3 "$UNZERO" inspect --json absent >out
has out '"error":{"status":"IO"'
