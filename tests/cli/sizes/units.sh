#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The limit shows in how many files there are. A third of the tensors is more than 300 bytes.
dry()
{
    "$UNZERO" consolidate --json --dry-run --max-shard-size "$1" "$TINY" out | tr ',' '\n' |
        grep -c '"name":"model-'
}
many=$(dry 300)
[ "$many" -gt 1 ] || fail "only $many files"
for text in 300B 300b '300 B' 0.3KB 0.3kb 0.3kB '0.3 KB' 0.000300MB; do
    [ "$(dry "$text")" -eq "$many" ] || fail "$text is not 300"
done
[ "$(dry 0.5KiB)" -eq "$(dry 512)" ] || fail "0.5KiB is not 512"
[ "$(dry 0.3kib)" -eq "$(dry 307)" ] || fail "0.3kib is not 307"
