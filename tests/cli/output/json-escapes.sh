#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Quotes and controls stay what they are; bytes that are no UTF-8 cannot.
out=$(printf 'a"b\\c\td\377')
consolidate --json -n "$TINY" "$out"
