#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate --json "$FIXTURES/bad-empty-file" out
