#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
expect 2 "$UNZERO" verify 2>text
has text "PATH is missing"
expect 2 "$UNZERO" verify a b 2>text
has text "one argument too many"
expect 2 "$UNZERO" verify --format html "$TINY" 2>text
has text "github"
expect 2 "$UNZERO" verify --source lp "$TINY" 2>text
has text "unknown option '--source'" # all of a checkpoint is looked at
expect 2 "$UNZERO" verify --json --format junit "$TINY" 2>text
has text "--json and --format junit contradict each other"
"$UNZERO" verify --json --format json "$TINY" >told
expect 3 "$UNZERO" verify --tp-map absent.json "$TINY" 2>text # no fault of the checkpoint
has text "absent.json: cannot be opened"
