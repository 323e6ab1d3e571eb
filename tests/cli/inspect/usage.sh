#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What makes no sense is refused.
expect 2 "$UNZERO" inspect
expect 2 "$UNZERO" inspect a b
expect 2 "$UNZERO" inspect --tree a b c
expect 2 "$UNZERO" inspect --tree --json a
expect 3 "$UNZERO" inspect .
expect 3 "$UNZERO" inspect /dev/null
