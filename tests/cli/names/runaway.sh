#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# An expression that tries exponentially many ways ends in an error.
expect 3 consolidate --include '^((\w|[a-z.])+)+![^!]$|^(([a-z.]|\w)*)*[?]$' "$FROZEN" out 2>stderr
has stderr 'the name ' 'tries too many ways'
absent out
