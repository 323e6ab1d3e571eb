#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checks that the shared library exports the public functions and nothing else, and that every
# global symbol of the objects begins with uz_.
set -eu

nm=${NM:-nm}
include=${srcdir:-.}/include/unzero
libs=${builddir:-.}/.libs
status=0

complain() {
    printf '%s\n' "$*" >&2
    status=1
}

# Defined symbols of nm's output, without what compilers and linkers add.
names() {
    awk 'NF == 3 && $2 ~ /^[A-Z]$/ { sub(/@.*/, "", $3); print $3 }' |
        grep -v -e '^__' -e '^_init$' -e '^_fini$' -e '^_edata$' -e '^_end$' | sort -u
}

# Functions that the headers declare UZ_API.
public=$(cat "$include"/*.h "$include"/*.h.in | sed 's,^ *#.*,,' | tr '\n' ' ' | tr ';' '\n' |
    grep 'UZ_API' | grep -o 'uz_[a-z0-9_]* *(' | tr -d ' (' | sort -u)
[ -n "$public" ] || complain "no UZ_API function in $include"

shared=$(find "$libs" -name 'libunzero.so' 2>/dev/null | head -n 1)
core=$libs/libunzero_core.a
if [ -z "$shared" ] && [ ! -e "$core" ]; then
    echo "neither a shared library nor $core: nothing to check"
    exit 77
fi

if [ -n "$shared" ]; then
    exported=$($nm -D --defined-only "$shared" | names)
    for name in $exported; do
        case $name in
        uz_*) ;;
        *) complain "$shared exports $name" ;;
        esac
        printf '%s\n' "$public" | grep -qx "$name" || complain "$shared exports $name, no header has it"
    done
    for name in $public; do
        printf '%s\n' "$exported" | grep -qx "$name" || complain "$shared does not export $name"
    done
fi

if [ -e "$core" ]; then
    for name in $($nm -g --defined-only "$core" | names); do
        case $name in
        uz_*) ;;
        *) complain "$core: a global symbol is named $name" ;;
        esac
    done
fi
exit $status
