#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What was asked for by name comes in any case.
consolidate --json --quiet -n "$TINY" out
