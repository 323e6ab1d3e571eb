#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A map that is not needed is read all the same.
expect 3 consolidate --tp-map nope "$TINY" out 2>err
has err 'nope'
echo '{}' >map.json
consolidate --tp-map map.json "$TINY" out 2>err
has err '--tp-map is of no use here'
