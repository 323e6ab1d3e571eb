#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What makes no sense is refused.
expect 2 "$UNZERO" diff
expect 2 "$UNZERO" diff a
expect 2 "$UNZERO" diff a b c
expect 2 "$UNZERO" diff --atol -1 a b
expect 2 "$UNZERO" diff --rtol x a b
expect 2 "$UNZERO" diff --rtol nan a b
expect 2 "$UNZERO" diff --ulp 1.5 a b
expect 3 "$UNZERO" diff --include nothing-has-this-name "$TINY" "$TINY"
