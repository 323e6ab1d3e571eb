#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate -v --strip-prefix blocks. --strip-prefix nothing. --rename 's/^(\d+)\.(?P<what>\w+)/\g<what>[\1]/' \
    --rename 's|\.|/|g' "$FROZEN" out >stdout 2>stderr
has stdout 'renamed: ' '  blocks.0.up.weight -> up[0]/weight' '  emb.weight -> emb/weight' \
    '  head/weight is emb/weight'
has stderr "warning: --strip-prefix 'nothing.' fits no name"
tensors out/model.safetensors >names
has names 'up[0]/weight' emb/weight 'ln[1]/bias'
consolidate -q "$FROZEN" whole
[ "$(tensor whole/model.safetensors blocks.1.up.weight)" = \
    "$(tensor out/model.safetensors 'up[1]/weight')" ] || fail "other data"

expect 3 consolidate --strict --strip-prefix nothing. "$FROZEN" none 2>stderr
has stderr "--strip-prefix 'nothing.' fits no name" --strict
absent none
