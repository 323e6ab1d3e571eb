#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Wrong expressions are wrong usage, told before anything is read.
for rule in '--include=(' '--exclude=a**' '--rename=s/(/x/' '--rename=a/b/c' '--rename=s/a/b' \
    '--rename=s/a/b/x' '--rename=s/(a)/\2/' '--include=\Qa' "--exclude=$(printf '\377')" \
    "--strip-prefix=$(printf '\303')"; do
    expect 2 "$UNZERO" consolidate "$rule" missing out >stdout 2>stderr
    option=${rule%%=*}
    has stderr "unzero: $option" "Try 'unzero consolidate --help'."
    [ ! -s stdout ] || fail "stdout: $(cat stdout)"
done
absent out
expect 2 "$UNZERO" consolidate --exclude "a|b\\" missing out 2>stderr
has stderr "at byte 3: a backslash ends it"
