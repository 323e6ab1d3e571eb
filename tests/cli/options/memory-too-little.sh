#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate --max-memory 1KB "$TINY" out
