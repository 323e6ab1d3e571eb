#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
echo text >file
expect 3 consolidate file out
absent out
