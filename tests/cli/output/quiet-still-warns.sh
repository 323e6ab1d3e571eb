#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate --quiet "$FIXTURES/good-container-archive-root" out
