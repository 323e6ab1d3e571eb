#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A checkpoint and what it was consolidated to.
consolidate -q "$TINY" out
"$UNZERO" diff "$TINY" out
"$UNZERO" diff -q out "$TINY"
