#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the tests over fixtures on checkpoints from elsewhere, beside the project's own.
#
# usage: external.sh BUILD FIXTURES...
#
# Each folder in FIXTURES that holds an expected.safetensors must convert to that (keys as in
# fixtures/README.md); one that holds an `expect` must be refused with those words.
set -u
here=$(cd "${0%/*}" && pwd) || exit 99
tests="fixtures states get inspect diff input"
build=$(cd "${1:?usage: external.sh BUILD FIXTURES...}" && pwd) || exit 99
shift

dir=$(mktemp -d "${TMPDIR:-/tmp}/unzero-external-XXXXXX") || exit 99
trap 'rm -rf "$dir"' EXIT
trap 'exit 99' HUP INT TERM

# link FOLDER NAME: under a name that no other fixture has
link()
{
    [ ! -e "$dir/$2" ] || return 0
    ln -s "$1" "$dir/$2" || exit 99
}

for folder in "$here"/../fixtures/*-*/; do
    link "${folder%/}" "$(basename "$folder")"
done
n=0
for root; do
    root=$(cd "$root" && pwd) || exit 99
    for folder in "$root"/*/; do
        name=$(basename "$folder" | tr _ -) # the tests find precisions in it, as -bf16-
        if [ -e "$folder/expected.safetensors" ]; then
            link "${folder%/}" "good-external-$name"
        elif [ -e "$folder/expect" ]; then
            link "${folder%/}" "bad-external-$name"
        else
            continue
        fi
        n=$((n + 1))
    done
done
[ "$n" -gt 0 ] || { echo "no fixtures there: $*"; exit 99; }
echo "$n fixtures from elsewhere"

failed=
for test in $tests; do
    UNZERO_FIXTURES=$dir "$build/tests/test_$test" > "$dir/log" 2>&1 || failed=1
    grep -E 'failed: |were (run|compared)|asserts' "$dir/log" | sed "s/^ */$test: /"
done
[ -z "$failed" ]
