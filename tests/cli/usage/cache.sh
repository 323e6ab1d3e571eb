#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
"$UNZERO" consolidate --cache some a b
