#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What a killed run moved aside comes back, and is not replaced without --force.
mkdir -p out/.unzero-partial
echo old >out/.unzero-partial/model.safetensors.replaced
echo old >out/.unzero-partial/model.safetensors.index.json.replaced
echo half >out/.unzero-partial/model.safetensors
expect 3 consolidate "$TINY" out 2>stderr
has stderr "already holds model.safetensors"
holds out model.safetensors model.safetensors.index.json
[ "$(cat out/model.safetensors)" = old ] || fail "the old file did not come back"
consolidate --force "$TINY" out
holds out model.safetensors
consolidate "$TINY" fresh
cmp out/model.safetensors fresh/model.safetensors
