#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# No false alarm: verify says that it does not take it.
expect 3 "$UNZERO" verify "$FIXTURES/uc-z3-bf16-w2-tiny" 2>err
has err 'is a universal checkpoint'
