#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate --json --include 'weight$' --exclude '^emb' --exclude '\.1\.' "$FROZEN" out >stdout
has stdout '"name":"blocks.0.up.bias","why":"rules"' '"name":"emb.weight","why":"rules"' \
    '"name":"blocks.1.up.weight","why":"rules"' '"warnings":[]'
"$UNZERO" consolidate --dry-run -v --include 'weight$' --exclude '^emb' "$FROZEN" none >stdout 2>/dev/null
has stdout 'names, by --include or --exclude' '  blocks.0.up.bias'
# holder and alias are names of their own: the data goes under the one that stays
tensors out/model.safetensors >names
has names blocks.0.up.weight head.weight
if grep -e emb -e bias -e 'blocks.1' names; then
    fail "these were to be left out"
fi
consolidate -q "$FROZEN" whole
[ "$(tensor whole/model.safetensors emb.weight)" = "$(tensor out/model.safetensors head.weight)" ] ||
    fail "head.weight is not emb.weight"
