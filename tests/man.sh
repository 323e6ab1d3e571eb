#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Manual pages: each command has one (docs/man/unzero-COMMAND.1), it or unzero.1 explains every
# option of the command's --help, no page explains options that are gone, and the markup is clean.
set -eu

pages=${srcdir:-.}/docs/man
scratch=$(mktemp -d "${TMPDIR:-/tmp}/unzero-man.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
status=0

complain() {
    printf '%s\n' "$*" >&2
    status=1
}

# help_options COMMAND: the long options that its --help explains
help_options() {
    "$UNZERO" "$1" --help | sed -n 's/^ \{2,6\}\(-[a-z], \)\{0,1\}--\([a-z0-9-]*\).*/\2/p'
}

# page_options PAGE...: the options that have a paragraph of their own
page_options() {
    sed -n '/^\.TP/{n;s/\\//g;s/^.*--\([a-z0-9-]*\).*/\1/p;}' "$@"
}

: >"$scratch/all"
n_commands=0
for command in $("$UNZERO" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\)  .*/\1/p'); do
    page=$pages/unzero-$command.1
    n_commands=$((n_commands + 1))
    if [ ! -e "$page" ]; then
        complain "$page is missing: each command has a manual page (dist_man1_MANS in Makefile.am)"
        continue
    fi
    grep -q "unzero..$command *(1)\|unzero..$command (1)" "$pages/unzero.1" ||
        complain "unzero.1 does not list unzero-$command"
    help_options "$command" >"$scratch/help"
    cat "$scratch/help" >>"$scratch/all"
    page_options "$pages/unzero.1" "$page" >"$scratch/explained"
    [ -s "$scratch/help" ] || complain "no options in the help of $command"
    while read -r option; do
        grep -qx -e "$option" "$scratch/explained" ||
            complain "--$option of $command is explained neither in unzero-$command.1 nor in unzero.1"
    done <"$scratch/help"
    page_options "$page" >"$scratch/explained"
    while read -r option; do
        grep -qx -e "$option" "$scratch/help" ||
            complain "unzero-$command.1 explains --$option, which $command does not have"
    done <"$scratch/explained"
done
[ "$n_commands" -gt 0 ] || complain "no commands found"

page_options "$pages/unzero.1" >"$scratch/explained"
while read -r option; do
    grep -qx -e "$option" "$scratch/all" ||
        complain "unzero.1 explains --$option, which no command has"
done <"$scratch/explained"

for page in "$pages"/*.1; do
    if command -v groff >/dev/null 2>&1; then
        groff -man -ww -b -z -Tutf8 "$page" 2>"$scratch/lint" || complain "groff fails on $page"
        [ ! -s "$scratch/lint" ] || complain "$(cat "$scratch/lint")"
    fi
    if command -v mandoc >/dev/null 2>&1; then
        mandoc -Tlint -W warning "$page" || complain "mandoc finds faults in $page"
    fi
done
echo "$n_commands commands were checked"
exit $status
