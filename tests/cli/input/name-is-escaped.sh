#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate "$(printf 'no\033[31m\nsuch\377')" out
