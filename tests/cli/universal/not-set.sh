#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# No false alarm: set says that it does not take it.
"$UNZERO" get "$FIXTURES/uc-z3-bf16-w2-tiny" odd -o w.npy
expect 3 "$UNZERO" set "$FIXTURES/uc-z3-bf16-w2-tiny" odd w.npy -o new 2>err
has err universal
absent new
