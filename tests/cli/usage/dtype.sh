#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
"$UNZERO" consolidate --dtype int8 a b
