#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A checkpoint: the facts, each on its line.
cd "$FIXTURES" || exit
"$UNZERO" inspect good-pickle-inert-system
