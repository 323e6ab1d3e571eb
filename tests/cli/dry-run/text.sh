#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate -n --threads 2 --max-shard-size 300 "$TINY" out
