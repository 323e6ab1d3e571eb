#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Before the first step, and with an optimizer that keeps nothing, there are weights alone.
for name in good-z1-bf16-w2-before-first-step good-z2-bf16-w2-sgd-plain; do
    expect 3 consolidate --state exp_avg "$FIXTURES/$name" none 2>stderr
    has stderr "there are no optimizer states"
    absent none
    consolidate "$FIXTURES/$name" "$name"
done
