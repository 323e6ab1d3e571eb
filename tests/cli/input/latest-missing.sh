#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
mkdir empty
consolidate empty out
