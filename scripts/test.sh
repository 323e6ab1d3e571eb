#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Sets up everything and runs the tests that need no Python.
set -eu
cd "$(dirname "$0")/.."
scripts/install-packages.sh
scripts/build.sh build/check --enable-werror
make --no-print-directory -C build/check -j"$(nproc)" check
