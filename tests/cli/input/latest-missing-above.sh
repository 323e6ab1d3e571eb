#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The folder above is a common slip: what was meant is named, the last one of several.
mkdir -p run/checkpoint-900 run/logs
cp -r "$TINY" run/checkpoint-500
cp -r "$TINY" run/checkpoint-1000
expect 3 consolidate run out 2>stderr
has stderr "Unable to find 'latest' file at run/latest" 'that is called checkpoint-1000, or --tag'
rm run/checkpoint-1000/latest
expect 3 consolidate run/checkpoint-1000 out 2>stderr
has stderr 'that is called global_step4, or --tag'
expect 3 consolidate run/logs out 2>stderr
has stderr 'give a checkpoint folder, or --tag'
absent out
