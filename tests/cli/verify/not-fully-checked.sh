#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A layout that is not joined is not called sound as if all had been looked at.
for fixture in unsupported-mics unsupported-zenflow unsupported-conj; do
    expect 0 "$UNZERO" verify "$FIXTURES/$fixture" >text
    has text "warning UZV043 (unsupported-layout)" "sound so far, but not fully checked: 0 errors"
    expect 1 "$UNZERO" verify --strict "$FIXTURES/$fixture" >text
    has text "NOT sound: 0 errors"
    expect 0 "$UNZERO" verify --json "$FIXTURES/$fixture" >json
    has json '"fully_checked":false'
done
expect 0 "$UNZERO" verify --json "$TINY" >json
has json '"fully_checked":true'
