#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# 1,024 ranks x 500 tensors, all of the data holes: the metadata must be read within 5 seconds and
# 256 MiB. Time depends on the machine, so wall time is told and CPU time is held to thrice that.
set -u
unzero=${UNZERO:-./unzero}
tools=${builddir:-.}/tests
ranks=1024 max_kib=262144 max_ms=5000

# Sanitizers multiply time and memory: run, but don't measure.
if [ -n "${UZ_SANITIZE:-}" ]; then
    ranks=64 max_kib='' max_ms=''
else
    unset TZ # as most users have it
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/unzero-sparse-XXXXXX") || exit 99
trap 'rm -rf "$dir"' EXIT
trap 'exit 99' HUP INT TERM

gib=10000 # of shards, more than the disk may hold: a plan only warns of that

fail()
{
    echo "FAIL: stage $stage: $*"
    [ ! -s "$dir/err" ] || head -n 5 "$dir/err"
    failed=1
}

check()
{
    stage=$1
    if ! "$tools/make_sparse" --stage "$stage" --ranks "$ranks" --tensors 500 --gib "$gib" \
        "$dir/checkpoint" 2> "$dir/err"; then
        cat "$dir/err"
        echo "this file system cannot hold the sparse files"
        exit 77
    fi
    "$tools/peak_rss" "$dir/took" "$unzero" consolidate --dry-run --json \
        "$dir/checkpoint" "$dir/out" > "$dir/json" 2> "$dir/err" ||
        fail "the dry run ended with status $?"
    read -r wall cpu kib < "$dir/took"
    echo "ZeRO $stage, $ranks ranks, $gib GiB: $wall ms, $cpu ms of CPU, $kib KiB"
    grep -Eq '"tensors":[[:space:]]*500([^0-9]|$)' "$dir/json" || fail "not 500 tensors: $(head -c 300 "$dir/json")"
    [ ! -e "$dir/out" ] || fail "a dry run left an output"
    if [ -n "$max_kib" ]; then
        [ "$kib" -lt "$max_kib" ] || fail "$kib KiB of memory, the bound is $max_kib"
        [ "$wall" -lt "$max_ms" ] ||
            echo "note: more than $max_ms ms, which a machine with nothing else to do needs not"
        [ "$cpu" -lt $((3 * max_ms)) ] || fail "$cpu ms of CPU, thrice the bound of $max_ms"
    fi
    inspect
    rm -rf "$dir/checkpoint"
}

# The same of inspect, which reads every pickle to its end.
inspect()
{
    "$tools/peak_rss" "$dir/took" "$unzero" inspect --json "$dir/checkpoint" > "$dir/json" \
        2> "$dir/err" || fail "inspect ended with status $?"
    read -r wall cpu kib < "$dir/took"
    echo "    inspect: $wall ms, $cpu ms of CPU, $kib KiB"
    grep -q '"trainable":{"tensors":500,' "$dir/json" || fail "not 500: $(head -c 300 "$dir/json")"
    [ -z "$max_kib" ] || [ "$kib" -lt "$max_kib" ] || fail "inspect: $kib KiB of memory"
    [ -z "$max_ms" ] || [ "$cpu" -lt $((3 * max_ms)) ] || fail "inspect: $cpu ms of CPU"
}

failed=
check 2
check 3
[ -z "$failed" ]
