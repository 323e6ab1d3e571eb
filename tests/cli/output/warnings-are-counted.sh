#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate "$FIXTURES/good-container-archive-root" out
