#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate --tag global_step9 "$TINY" out
