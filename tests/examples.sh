#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the examples of docs/examples as they were built beside the library; then installs the
# library into a folder, builds them against that through pkg-config, and runs them again.
set -eu

srcdir=${srcdir:-.}
builddir=$(cd "${builddir:-.}" && pwd)
examples=$srcdir/docs/examples
checkpoint=$srcdir/fixtures/good-z1-fp32-w4-padding
work=$(mktemp -d "${TMPDIR:-/tmp}/unzero-examples.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# run DIR: what the examples in it print, compared with what they should.
run() {
    "$1/two_ranks" >"$work/two_ranks"
    diff -u "$examples/two_ranks.txt" "$work/two_ranks"
    "$1/read_checkpoint" "$checkpoint" >"$work/read_checkpoint"
    grep -e '^global' -e '^[a-z].*: parameter' -e '^  rank' "$work/read_checkpoint" >"$work/linkage"
    diff -u "$examples/read_checkpoint.txt" "$work/linkage"
    grep -q '^  exp_avg_sq: ' "$work/read_checkpoint"
    if "$1/read_checkpoint" "$checkpoint" no.such >"$work/out" 2>"$work/err"; then
        echo "a name that is not there was found" >&2
        return 1
    fi
    grep -q "there is no tensor 'no.such'" "$work/err"
}

run "$builddir/docs/examples"

# The folder stands where the prefix says, below a root that pkg-config is told of.
unset MAKEFLAGS MFLAGS MAKELEVEL DESTDIR
make -C "$builddir" -s install DESTDIR="$work/root" >"$work/install.log" 2>&1 || {
    cat "$work/install.log" >&2
    exit 1
}

# Every header and every page is installed.
for file in "$srcdir"/include/unzero/*.h "$srcdir"/docs/man/*.1; do
    [ -n "$(find "$work/root" -name "${file##*/}")" ] || {
        echo "${file##*/} is not installed: see Makefile.am" >&2
        exit 1
    }
done

pc=$(find "$work/root" -name unzero.pc)
PKG_CONFIG_SYSROOT_DIR=$work/root
PKG_CONFIG_PATH=${pc%/*}${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
export PKG_CONFIG_SYSROOT_DIR PKG_CONFIG_PATH
libdir=${pc%/pkgconfig/unzero.pc}
static=
[ -e "$libdir/libunzero.so" ] || static=--static
mkdir "$work/bin"
for name in two_ranks read_checkpoint; do
    # shellcheck disable=SC2046,SC2086 # lists of words
    ${CC:-cc} -std=c11 -Wall -Wextra -Wpedantic -Werror ${UZ_SANITIZE-} "$examples/$name.c" \
        $(${PKG_CONFIG:-pkg-config} $static --cflags --libs unzero) -o "$work/bin/$name"
done
LD_LIBRARY_PATH=$libdir${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
run "$work/bin"
