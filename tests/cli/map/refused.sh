#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
expect 3 "$UNZERO" map "$TINY" --param nobody 2>err
has err "no tensor's name is 'nobody' or matches it"
expect 2 "$UNZERO" map "$TINY" --param '(' 2>err
has err "--param: regular expression '('"
expect 3 "$UNZERO" map missing --param '(' 2>err # it might be a name
expect 3 "$UNZERO" map "$TINY" --rank 7 2>err
has err 'no such rank'
expect 3 "$UNZERO" map "$TINY" --rank 7 --json >out 2>err
has out '"error":{"status":"ARG","message":"--rank 7: no such rank'
expect 2 "$UNZERO" map 2>err
has err 'CHECKPOINT is missing'
