#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A wrong command line is found before the checkpoint is looked at.
expect 2 "$UNZERO" consolidate "$TINY" out --dtype
absent out
