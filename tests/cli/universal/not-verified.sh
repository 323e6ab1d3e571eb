#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# No false alarm: verify and set say that they do not take it.
expect 3 "$UNZERO" verify "$FIXTURES/uc-z3-bf16-w2-tiny" 2>err
has err 'is a universal checkpoint'
"$UNZERO" get "$FIXTURES/uc-z3-bf16-w2-tiny" odd -o w.npy
expect 3 "$UNZERO" set "$FIXTURES/uc-z3-bf16-w2-tiny" odd w.npy -o new 2>err
has err universal
absent new
