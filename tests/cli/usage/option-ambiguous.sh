#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
"$UNZERO" consolidate --max 5GB a b
