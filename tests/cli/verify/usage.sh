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
