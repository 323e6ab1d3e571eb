#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
"$UNZERO" consolidate --buffers bf16 "$TINY" out
