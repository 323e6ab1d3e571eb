#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Counts instructions (callgrind) for each MiB converted and each piece planned, and compares them
# with tests/instructions.txt: a regression check that other work on the machine cannot disturb.
# What the system does for reads and writes is not in it. `--write` renews the file.
#
# Each count is a difference of two sizes, so that what a run costs anyway falls out. Valgrind shows
# programs a CPU with AVX2 wherever there is one, and never AVX-512, so casts are AVX2's.
set -eu
margin=10 # percent; another release of the compiler or of a library may cost as much

builddir=${builddir:-.} srcdir=${srcdir:-.}
tools=$builddir/tests
counts=$srcdir/tests/instructions.txt
command -v valgrind >/dev/null 2>&1 || {
    echo "SKIP: valgrind is not here, instructions are not counted"
    exit 77
}
grep -qw avx2 /proc/cpuinfo || {
    echo "SKIP: this CPU has no AVX2, for which $counts is"
    exit 77
}
dir=$(mktemp -d "${TMPDIR:-/tmp}/unzero-instructions-XXXXXX")
trap 'rm -rf "$dir"' EXIT
trap 'exit 99' HUP INT TERM

# count CHECKPOINT [OPTION]...: instructions of one consolidation on one thread
count()
{
    checkpoint=$1
    shift
    "$builddir/libtool" --mode=execute valgrind --tool=callgrind \
        --callgrind-out-file="$dir/profile" "$builddir/unzero" consolidate --quiet --force \
        --sync none --threads 1 "$@" "$checkpoint" "$dir/out" 2>"$dir/err" || {
        cat "$dir/err" >&2
        exit 1
    }
    sed -n 's/^==[0-9]*== Collected : *\([0-9]*\).*/\1/p' "$dir/err"
}

# tell NAME FEW MANY UNITS: what each of the units cost
tell()
{
    echo "$1 $((($3 - $2) / $4))"
}

# 4 and 20 MiB of masters; the same number of tensors
for vocabulary in 8192 40960; do
    "$tools/make_sparse" --random --ranks 2 --tensors 11 --width 64 --vocabulary $vocabulary \
        "$dir/$vocabulary"
done
mib=$(((40960 - 8192) * 64 * 4 * 2 / 1048576))
{
    for dtype in fp32 bf16 fp16; do
        tell "convert-$dtype" "$(count "$dir/8192" --dtype $dtype)" \
            "$(count "$dir/40960" --dtype $dtype)" $mib
    done
    tell convert-pt "$(count "$dir/8192" --format pt)" "$(count "$dir/40960" --format pt)" $mib
    for stage in 2 3; do
        for ranks in 16 48; do
            "$tools/make_sparse" --stage $stage --ranks $ranks --tensors 200 --gib 1 \
                "$dir/z$stage-$ranks"
        done
        # a piece of each tensor on each rank with ZeRO-3; of about one or two with ZeRO-2
        [ $stage = 3 ] && unit=$((32 * 200)) || unit=32
        tell "plan-z$stage" "$(count "$dir/z$stage-16" --dry-run)" \
            "$(count "$dir/z$stage-48" --dry-run)" "$unit"
    done
} >"$dir/counts"

if [ "${1-}" = --write ]; then
    cp "$dir/counts" "$counts"
    cat "$counts"
    exit 0
fi
status=0
while read -r name got; do
    want=$(sed -n "s/^$name //p" "$counts")
    if [ -z "$want" ] || [ $((got * 100)) -gt $((want * (100 + margin))) ]; then
        echo "FAIL: $name: $got instructions for each, ${want:-none} in $counts"
        status=1
    elif [ $((got * 100)) -lt $((want * (100 - margin))) ]; then
        echo "$name: $got instructions, fewer than the $want in $counts: renew it with --write"
    else
        echo "$name: $got instructions, $want in $counts"
    fi
done <"$dir/counts"
exit $status
