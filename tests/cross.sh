#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the tests of the casts for AArch64 and runs them, on another machine under qemu-user.
# Debian's packages: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user.
set -eu
cd "$(dirname "$0")/.."
cc=aarch64-linux-gnu-gcc qemu=qemu-aarch64

for tool in $cc $qemu; do
    command -v "$tool" >/dev/null 2>&1 || {
        echo "SKIP: $tool is not here, the casts for AArch64 stay untested"
        exit 77
    }
done
dir=$(mktemp -d "${TMPDIR:-/tmp}/unzero-cross-XXXXXX")
trap 'rm -rf "$dir"' EXIT
$cc -std=gnu11 -O2 -Wall -Wextra -Werror -static -Isrc -Iinclude -Itests/cross -Itests \
    -o "$dir/test_kernels" tests/test_kernels.c src/kernels/cast*.c src/kernels/cpu.c -lm
$qemu "$dir/test_kernels" >"$dir/log" || {
    cat "$dir/log"
    exit 1
}
grep -q '^levels: scalar neon$' "$dir/log" || {
    echo "the level for AArch64 was not tested: $(head -n 2 "$dir/log")"
    exit 1
}
grep passed "$dir/log"
