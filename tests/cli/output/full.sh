#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# /dev/full takes nothing; systems without it skip this.
[ -c /dev/full ] || exit 0
for args in --help --version 'help consolidate'; do
    # shellcheck disable=SC2086 # words
    expect 3 "$UNZERO" $args >/dev/full 2>stderr
    has stderr 'unzero: standard output: cannot be written'
done
expect 3 "$UNZERO" --version >/dev/full 2>stderr
has stderr 'cannot be written: '
expect 3 consolidate "$TINY" a >/dev/full
expect 3 consolidate --json "$TINY" b >/dev/full
holds a model.safetensors
