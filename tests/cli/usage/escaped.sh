#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What the user typed must not reach the terminal raw.
"$UNZERO" consolidate "$(printf -- '--a\033[31m\377')"
