#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the command-line cases: tests/cli/TOPIC/CASE.sh, or those that the arguments name.
#
# usage: UNZERO=PROGRAM [FIXTURES=DIR] run.sh [TOPIC | TOPIC/CASE]...
#
# A case is a piece of sh that runs in an empty folder of its own, with -eu, the functions of
# helpers.sh, $UNZERO and $FIXTURES. Files beside it say what it must come to:
#
#   CASE.exit           exit code (without the file: 0)
#   CASE.stdout.exact   standard output, to the byte
#   CASE.stdout.glob    pattern of sh that standard output as a whole must match
#   CASE.stderr.exact, CASE.stderr.glob
#
# Prints a line for each failed case and a count at the end. Exits 1 if a case failed, 99 if the
# tests cannot run.

set -u

die()
{
    echo "run.sh: $1" >&2
    exit 99
}

absolute()
{
    case $1 in
    /*) echo "$1" ;;
    *) echo "$PWD/$1" ;;
    esac
}

case $0 in
*/*) here=$(cd "${0%/*}" && pwd) || exit 99 ;;
*) here=$PWD ;;
esac
[ -x "${UNZERO:-}" ] || die "UNZERO must name the program"
UNZERO=$(absolute "$UNZERO")
FIXTURES=$(cd "${FIXTURES:-$here/../../fixtures}" && pwd) || die "no folder of fixtures"
[ -e "$FIXTURES/good-z2-bf16-w2-2groups-tiny" ] || die "no fixtures in $FIXTURES"
export UNZERO FIXTURES
export LC_ALL=C TERM=dumb
unset POSIXLY_CORRECT

scratch=$(mktemp -d "${TMPDIR:-/tmp}/unzero-cli.XXXXXX") || die "no temporary folder"
trap 'rm -rf "$scratch"' EXIT
trap 'exit 99' HUP INT TERM

n_passed=0
n_failed=0

# check_stream CASE NAME FILE: says how FILE differs from what is expected
check_stream()
{
    if [ -e "$1.$2.exact" ] && ! cmp -s "$1.$2.exact" "$3"; then
        echo "$2 is not as in ${1##*/}.$2.exact"
    fi
    if [ -e "$1.$2.glob" ]; then
        pattern=$(cat "$1.$2.glob")
        # shellcheck disable=SC2254 # the pattern is meant to be one
        case $(cat "$3") in
        $pattern) ;;
        *) echo "$2 does not match ${1##*/}.$2.glob" ;;
        esac
    fi
}

# run_case CASE: leaves what is wrong in $scratch/faults
run_case()
{
    want=0
    got=0
    [ ! -e "$1.exit" ] || want=$(cat "$1.exit")
    rm -rf "$scratch/work"
    mkdir "$scratch/work" || die "no folder for the case"
    (
        cd "$scratch/work" || exit 99
        # shellcheck disable=SC2016 # that shell expands it
        exec sh -eu -c '. "$1"; . "$2"' sh "$here/helpers.sh" "$1.sh"
    ) </dev/null >"$scratch/stdout" 2>"$scratch/stderr" || got=$?
    {
        [ "$got" -eq "$want" ] || echo "exit code $got, not $want"
        check_stream "$1" stdout "$scratch/stdout"
        check_stream "$1" stderr "$scratch/stderr"
    } >"$scratch/faults"
}

report_case()
{
    if [ ! -s "$scratch/faults" ]; then
        n_passed=$((n_passed + 1))
        return
    fi
    n_failed=$((n_failed + 1))
    echo "FAIL ${1#"$here"/}: $(tr '\n' ';' <"$scratch/faults")"
    sed 's/^/    stdout: /' "$scratch/stdout" | head -n 20
    sed 's/^/    stderr: /' "$scratch/stderr" | head -n 20
}

run_topic()
{
    for script in "$1"/*.sh; do
        [ -e "$script" ] || die "no cases in $1"
        run_case "${script%.sh}"
        report_case "${script%.sh}"
    done
}

if [ $# -eq 0 ]; then
    for topic in "$here"/*/; do
        run_topic "${topic%/}"
    done
fi
for name; do
    if [ -d "$here/$name" ]; then
        run_topic "$here/$name"
    elif [ -e "$here/$name.sh" ]; then
        run_case "$here/$name"
        report_case "$here/$name"
    else
        die "no case $name"
    fi
done

echo "$n_passed passed, $n_failed failed"
[ "$n_failed" -eq 0 ] && [ "$n_passed" -gt 0 ]
