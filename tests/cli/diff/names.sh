#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Names change as consolidate changes them; what is left out is left out on both sides.
consolidate -q --rename 's/blocks/h/' "$TINY" out
expect 1 "$UNZERO" diff "$TINY" out >told
has told 'only-a   blocks.0.up.weight' 'only-b   h.0.up.weight'
"$UNZERO" diff --rename 's/blocks/h/' "$TINY" out
consolidate -q --include '^blocks' "$TINY" part
"$UNZERO" diff --include '^blocks' "$TINY" part
"$UNZERO" diff --include '^blocks' part "$TINY"
"$UNZERO" diff --exclude '^(emb|head|odd|alpha)' "$TINY" part
expect 1 "$UNZERO" diff "$TINY" part >told
has told 'only-a   emb.weight'
