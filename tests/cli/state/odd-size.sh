#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A state that has not an element for each of the parameters' is left out, which is told.
odd=$FIXTURES/good-states-odd-size
consolidate -q --state all "$odd" all 2>stderr
has stderr "warning: the optimizer state row is left out"
tensors all/model.safetensors >names
has names exp_avg/odd exp_avg_sq/odd fp32/odd
if grep row/ names; then
    fail "row is there"
fi
expect 3 consolidate --strict --state all "$odd" out 2>stderr
has stderr "the optimizer state row is left out"
expect 3 consolidate --state row "$odd" out 2>stderr
has stderr "the optimizer state row has not an element for each"
absent out
