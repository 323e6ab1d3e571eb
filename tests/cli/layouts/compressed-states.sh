#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# States that are no values are refused by name; the weights beside them convert.
expect 3 consolidate --state exp_avg "$FIXTURES/good-states-1bit" out 2>stderr
has stderr "1-bit optimizer" "only the weights"
expect 3 consolidate --state state1 "$FIXTURES/good-states-8bit" out 2>stderr
has stderr "8-bit optimizer" "only the weights"
expect 3 consolidate --strict --state all "$FIXTURES/good-states-8bit" out
absent out
consolidate --state all "$FIXTURES/good-states-8bit" all 2>stderr
has stderr "left out" "8-bit optimizer"
consolidate "$FIXTURES/good-states-1bit" bit
consolidate "$FIXTURES/good-states-8bit" byte
cmp bit/model.safetensors byte/model.safetensors
