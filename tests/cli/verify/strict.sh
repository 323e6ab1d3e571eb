#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
expect 0 "$UNZERO" verify "$FIXTURES/good-z2-fp16-w3-roundrobin" >text
has text "warning UZV041 (round-robin-mapping)" "sound: 0 errors, 1 warning"
expect 1 "$UNZERO" verify --strict "$FIXTURES/good-z2-fp16-w3-roundrobin" >text
has text "NOT sound: 0 errors, 1 warning"
