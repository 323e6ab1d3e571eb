#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate --json "$FIXTURES/good-container-archive-root" out >stdout
grep -q '"warnings":\[".*archive.*"\]' stdout || fail "$(cat stdout)"
