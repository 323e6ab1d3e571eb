#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds out of tree: scripts/build.sh DIR [configure options ...]
set -eu
cd "$(dirname "$0")/.."
dir=$1
shift
if [ ! -x configure ]; then ./autogen.sh >/dev/null 2>&1 || ./autogen.sh; fi
mkdir -p "$dir"
cd "$dir"
[ -f Makefile ] || "$OLDPWD/configure" --quiet "$@"
make --no-print-directory -s -j"$(nproc)"
