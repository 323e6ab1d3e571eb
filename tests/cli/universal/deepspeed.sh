#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# --dialect deepspeed makes the files that DeepSpeed's own converter made of the same checkpoints.
list()
{
    (cd "$1" && find . -type f | LC_ALL=C sort)
}
for name in z2-bf16-w2-2groups-tiny z3-bf16-w2-tiny; do
    theirs=$FIXTURES/uc-$name/$(cat "$FIXTURES/uc-$name/latest_universal")
    "$UNZERO" universal -q --sync none --dialect deepspeed "$FIXTURES/good-$name" "ours-$name"
    list "$theirs" >want
    list "ours-$name" >got
    diff want got
    "$UNZERO" diff --state all "$theirs" "ours-$name" >/dev/null
done

# info that is missing can be known without tensor ranks only
"$UNZERO" universal -q --sync none --dialect deepspeed --inject-missing-state "$TINY" injected
diff -r ours-z2-bf16-w2-2groups-tiny injected
