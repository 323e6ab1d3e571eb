#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Loaders prefer safetensors, so whoever writes the other format beside it has to know.
consolidate "$TINY" out
consolidate --format pt "$TINY" out 2>stderr
has stderr 'out holds model.safetensors as well' 'remove it'
holds out model.safetensors pytorch_model.bin
consolidate --force "$TINY" out 2>stderr
[ ! -s stderr ] || fail "a warning: $(cat stderr)"
