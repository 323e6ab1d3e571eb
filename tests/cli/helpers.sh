#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What all cases may use.

# The smallest checkpoint of ZeRO 2: tags global_step3 and global_step4 (latest), 11 tensors.
TINY=$FIXTURES/good-z2-bf16-w2-2groups-tiny
export TINY
# ZeRO 3 with a frozen and a tied parameter.
FROZEN=$FIXTURES/good-z3-bf16-w2-frozen-tied
export FROZEN

fail()
{
    echo "$*" >&2
    exit 1
}

# consolidate ARGUMENT...: without waiting for the disk
consolidate()
{
    "$UNZERO" consolidate --sync none "$@"
}

# expect CODE COMMAND...: the command must end with that code
expect()
{
    expect_want=$1
    shift
    expect_got=0
    "$@" || expect_got=$?
    [ "$expect_got" -eq "$expect_want" ] || fail "exit code $expect_got, not $expect_want: $*"
}

# holds FOLDER NAME...: the folder has these entries and no others; names in order
holds()
{
    holds_got=$(ls -A "$1")
    holds_dir=$1
    shift
    holds_want=$(for holds_name; do echo "$holds_name"; done)
    [ "$holds_got" = "$holds_want" ] || fail "$holds_dir holds: $holds_got"
}

# absent PATH...
absent()
{
    for absent_path; do
        [ ! -e "$absent_path" ] || fail "$absent_path is there"
    done
}

# has FILE TEXT...: each text is in the file, as it is
has()
{
    has_file=$1
    shift
    for has_text; do
        grep -qF -e "$has_text" "$has_file" || fail "'$has_text' is missing: $(cat "$has_file")"
    done
}

# size FILE: its bytes
size()
{
    wc -c <"$1" | tr -d ' '
}
