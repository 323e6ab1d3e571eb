#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
"$UNZERO" consolidate --frobnicate=1 a b
