#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
expect 3 consolidate --rename 's/\.\d\././' "$FROZEN" out 2>stderr
has stderr 'blocks.0.' ' and blocks.1.' ' would both be named blocks.'
expect 3 consolidate --rename 's/^emb.*//' "$FROZEN" out 2>stderr
has stderr 'the name emb.weight: nothing is left of the name'
expect 3 consolidate --exclude . "$FROZEN" out 2>stderr
has stderr 'no tensor is left to write'
absent out
