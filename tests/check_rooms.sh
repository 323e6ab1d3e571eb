#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checks that each folder of src/ includes only what lies below it.
set -eu

src=${srcdir:-.}/src
status=0

# Rooms that a room may include, apart from itself.
allowed_rooms() {
    case $1 in
    base | kernels | cli) ;;
    layout) echo base kernels ;;
    torch) echo base ;;
    zero) echo base kernels layout torch ;;
    input) echo base layout torch zero ;;
    out) echo base layout torch ;;
    plan) echo base layout out ;;
    engine) echo base kernels layout torch plan out ;;
    check) echo base kernels layout torch zero input out plan engine ;;
    access) echo base kernels layout torch zero input plan engine check ;;
    convert) echo base kernels layout torch zero input out plan engine check ;;
    *) return 1 ;;
    esac
}

complain() {
    printf '%s\n' "$*" >&2
    status=1
}

# check_include ROOM FILE INCLUDE: INCLUDE is "path" or <path>, with its quotes.
check_include() {
    room=$1 file=$2 include=$3
    path=${include#?}
    path=${path%?}
    first=${path%%/*}
    case $include in
    '<unzero/'*)
        [ "$room" != kernels ] || complain "$file: kernels include nothing of unzero: $include"
        ;;
    '<'*)
        [ ! -d "$src/$first" ] || [ "$first" = "$path" ] ||
            complain "$file: a room in angle brackets: $include"
        ;;
    '"'*/*)
        for other in $room $(allowed_rooms "$room"); do
            [ "$first" != "$other" ] || return 0
        done
        complain "$file: $room may not include $include"
        ;;
    *)
        [ -e "$src/$room/$path" ] || complain "$file: which room is $include in?"
        ;;
    esac
}

n_files=0
for file in "$src"/*/*; do
    room=${file%/*}
    room=${room##*/}
    case $file in
    *.c | *.h | *.def) ;;
    *) continue ;;
    esac
    allowed_rooms "$room" >/dev/null || {
        complain "$file: there is no rule for the room $room"
        continue
    }
    n_files=$((n_files + 1))
    # shellcheck disable=SC2013 # includes hold no blanks
    for include in $(sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*\([<"][^>"]*[>"]\).*/\1/p' \
        "$file"); do
        check_include "$room" "$file" "$include"
    done
done
[ "$n_files" -gt 0 ] || complain "no sources under $src"
echo "$n_files files were checked"
exit $status
