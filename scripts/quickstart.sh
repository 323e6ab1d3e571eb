#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Sets up everything and turns a real checkpoint that the repository ships into weights.
set -eu
cd "$(dirname "$0")/.."
scripts/install-packages.sh
scripts/build.sh build
checkpoint=${1-fixtures/good-z2-bf16-w2-llama}
out=${2-llama-weights}
set -x
build/unzero consolidate --force "$checkpoint" "$out"
ls -l "$out"
