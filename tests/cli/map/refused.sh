#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
expect 3 "$UNZERO" map "$TINY" --param nobody 2>err
has err "no tensor's name is 'nobody' or matches it"
expect 3 "$UNZERO" map "$TINY" --param '(' 2>err
expect 3 "$UNZERO" map "$TINY" --rank 7 2>err
has err 'no such rank'
expect 2 "$UNZERO" map 2>err
has err 'CHECKPOINT is missing'
