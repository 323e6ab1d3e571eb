#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate "$TINY" out
expect 3 consolidate -n "$TINY" out
expect 0 consolidate -n --force "$TINY" out
