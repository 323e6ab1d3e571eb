#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian/Ubuntu packages that building and testing need, if any is missing.
# With --ci also those of the CI matrix (clang, sanitizers' runtime, linters, Python).
set -eu

build="gcc make autoconf automake libtool pkg-config libzip-dev libzstd-dev libpcre2-dev zlib1g-dev
       libcjson-dev libdeflate-dev libxxhash-dev uthash-dev libcunit1-dev xz-utils"
ci="clang clang-format groff-base shellcheck python3 python3-venv valgrind
    gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"

wanted=$build
[ "${1-}" = --ci ] && wanted="$build $ci"

if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "install-packages: not a Debian or Ubuntu system; see docs/dependencies.md for what to" \
        "install, then run ./autogen.sh && ./configure && make" >&2
    exit 0
fi

missing=
for package in $wanted; do
    status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
    root=
elif command -v sudo >/dev/null 2>&1; then
    root=sudo
else
    echo "install-packages: as root, run: apt-get install$missing" >&2
    exit 1
fi
echo "installing:$missing"
$root apt-get update -qq
# shellcheck disable=SC2086 # a list of package names
DEBIAN_FRONTEND=noninteractive $root apt-get install -y -qq --no-install-recommends $missing >/dev/null
