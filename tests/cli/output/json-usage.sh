#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Wrong usage, too, is an object on standard output if JSON was asked for, wherever --json stands.
for command in consolidate diff inspect get map reshard set universal verify; do
    expect 2 "$UNZERO" "$command" --bogus a --json b c d e >stdout 2>stderr
    [ "$(wc -l <stdout)" -eq 1 ] || fail "$command: $(cat stdout)"
    has stdout '{"schema":1,"command":"'"$command"'","error":{"status":"ARG","message":"unknown option '
    has stderr "unknown option '--bogus'"
done
expect 2 "$UNZERO" consolidate --json "$TINY" >stdout 2>stderr
has stdout '"status":"ARG","message":"OUT is missing'
expect 2 "$UNZERO" verify --format=json >stdout 2>stderr
has stdout '"message":"PATH is missing"'
expect 2 "$UNZERO" diff --rtol --json a >stdout 2>stderr # the value of another option
[ ! -s stdout ] || fail "$(cat stdout)"
expect 2 "$UNZERO" consolidat --json >stdout 2>stderr
has stdout '"command":null,"error":{"status":"ARG","message":"unknown command'
expect 2 "$UNZERO" consolidate --bogus >stdout 2>stderr
[ ! -s stdout ] || fail "$(cat stdout)"
