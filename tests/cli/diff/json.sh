#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# One object in one line; equal names with --verbose only.
consolidate -q --dtype bf16 "$TINY" out
expect 1 "$UNZERO" diff --json "$TINY" out >told
[ "$(wc -l <told)" -eq 1 ]
has told '"schema":1,"command":"diff"' '"same":false' '"verdict":"rounded"' '"rounded":9'
expect 3 "$UNZERO" diff --json "$TINY" absent >told
has told '"error":{"status":"IO"'
