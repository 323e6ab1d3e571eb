#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The lines that people search the logs of zero_to_fp32.py for.
consolidate -v --verbose "$FROZEN" out
