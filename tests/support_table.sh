#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes the table of docs/support.md by running the commands over the fixtures, and compares.
#
# usage: UNZERO=PROGRAM support_table.sh [--write]
#
# A row is a fixture, a column a command; another command is another line in `columns`.
set -eu
here=$(cd "${0%/*}" && pwd)
fixtures=$here/../fixtures
doc=$here/../docs/support.md
scratch=$(mktemp -d "${TMPDIR:-/tmp}/unzero-support.XXXXXX") || exit 99
trap 'rm -rf "$scratch"' EXIT

columns="consolidate lp reshard"

# run_COLUMN FOLDER OUT: the command of a column
run_consolidate()
{
    "$UNZERO" consolidate -q --sync none "$1" "$2"
}
run_lp()
{
    "$UNZERO" consolidate -q --sync none --source lp "$1" "$2"
}

run_reshard()
{
    "$UNZERO" reshard -q --sync none "$1" "$2" --dp 3
}

# cell COLUMN FOLDER: "yes", "warns", or why not, as far as one word tells
cell()
{
    code=0
    "run_$1" "$2" "$scratch/out" >/dev/null 2>"$scratch/err" || code=$?
    rm -rf "$scratch/out"
    case $code in
    0) if [ -s "$scratch/err" ]; then echo "warns"; else echo "yes"; fi ;;
    3) echo "no" ;;
    *) echo "exit $code" ;;
    esac
}

# version FOLDER: the DeepSpeed that wrote it; "" for folders that were derived
version()
{
    [ -e "$1/case.json" ] || return 0
    sed -n 's/.*"deepspeed": *"\([0-9.]*\)".*/\1/p' "$1/case.json"
}

table()
{
    echo "| checkpoint | DeepSpeed | consolidate | consolidate --source lp | reshard --dp 3 |"
    echo "|---|---|---|---|---|"
    for folder in "$fixtures"/good-* "$fixtures"/unsupported-*; do
        name=${folder##*/}
        row="| \`$name\` | $(version "$folder")"
        for column in $columns; do
            row="$row | $(cell "$column" "$folder")"
        done
        echo "$row |"
    done
}

table >"$scratch/table"
{
    sed '/^| checkpoint /,$d' "$doc"
    cat "$scratch/table"
} >"$scratch/support.md"
if [ "${1:-}" = --write ]; then
    cp "$scratch/support.md" "$doc"
elif ! diff "$doc" "$scratch/support.md"; then
    echo "docs/support.md is out of date: tests/support_table.sh --write" >&2
    exit 1
fi
