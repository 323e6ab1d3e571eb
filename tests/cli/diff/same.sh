#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A checkpoint and what it was consolidated to; with --quiet there is nothing to tell.
consolidate -q "$TINY" out
"$UNZERO" diff "$TINY" out
"$UNZERO" diff -q out "$TINY"
