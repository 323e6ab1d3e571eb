#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The summary is lost: worth an error. With nothing to say all is well. And no output file may
# get the number of the closed stream.
expect 3 consolidate "$TINY" a >&- 2>stderr
has stderr 'unzero: standard output: cannot be written'
consolidate --quiet "$TINY" b >&-
cmp a/model.safetensors b/model.safetensors
consolidate --quiet "$TINY" c >&- 2>&- <&-
cmp a/model.safetensors c/model.safetensors
