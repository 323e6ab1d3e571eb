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

# tensors FILE: begin and end of its data, dtype and name of each tensor of a safetensors file
tensors()
{
    dd if="$1" bs=1 skip=8 count="$(header_size "$1")" 2>/dev/null |
        sed 's/"__metadata__":{[^}]*},//; s/},*/}\n/g' |
        sed -n 's/^{*"\([^"]*\)":{"dtype":"\([^"]*\)".*\[\([0-9]*\),\([0-9]*\)\]}/\3 \4 \2 \1/p' |
        sort -n
}

# header_size FILE: bytes of a safetensors header
header_size()
{
    od -A n -t u4 -N 4 "$1" | tr -d ' '
}

# tensor FILE NAME: checksum of the data of a tensor
tensor()
{
    tensors "$1" | while read -r tensor_begin tensor_end tensor_dtype tensor_name; do
        [ "$tensor_name" = "$2" ] || continue
        echo "$tensor_dtype $(tail -c +$((9 + $(header_size "$1") + tensor_begin)) "$1" |
            head -c $((tensor_end - tensor_begin)) | cksum)"
    done
}
