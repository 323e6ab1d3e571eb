#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
expect 3 consolidate --tag --no_such_tag "$TINY" out 2>stderr
has stderr "--no_such_tag"
expect 3 consolidate --tag=--no_such_tag "$TINY" out 2>stderr
has stderr "--no_such_tag"
expect 3 consolidate -t --no_such_tag "$TINY" out 2>stderr
has stderr "--no_such_tag"
expect 3 consolidate -qt --no_such_tag "$TINY" out 2>stderr
has stderr "--no_such_tag"
consolidate -- "$TINY" --my_out
holds ./--my_out model.safetensors
