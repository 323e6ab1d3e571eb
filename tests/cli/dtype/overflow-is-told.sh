#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# fp32 training holds values that fp16 cannot: a warning and a count, and infinities.
consolidate --json --dtype fp16 "$FIXTURES/good-z2-fp32-w3-frozen-special" out >stdout
if grep -F '"overflows":0' stdout; then
    fail "no overflows"
fi
has stdout '"overflows":' 'became infinite'
