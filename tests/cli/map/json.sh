#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
"$UNZERO" map "$TINY" --param blocks.0.ln.bias --json >out
has out '"command":"map"' '"first":2,"last":3,"elements":2,"strided":false' '"packing":"stored"' '"dp_rank":1'
