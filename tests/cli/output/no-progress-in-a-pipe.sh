#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
TERM=xterm consolidate "$TINY" out
