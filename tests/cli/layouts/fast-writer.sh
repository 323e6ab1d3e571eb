#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What FastPersist wrote in parts is refused by name by all that read a checkpoint, and also
# beside whole shards, which may be older.
parts=$FIXTURES/unsupported-fastpersist
expect 3 consolidate --source lp "$parts" out 2>stderr
has stderr FastPersist "pt-0.2"
for command in inspect verify; do
    expect 3 "$UNZERO" "$command" "$parts" 2>stderr >stdout
    cat stdout >>stderr
    has stderr FastPersist
done
cp -R "$TINY" both
chmod -R u+w both
cp "$parts"/global_step3/* both/global_step4
expect 3 consolidate both out 2>stderr
has stderr FastPersist
absent out
