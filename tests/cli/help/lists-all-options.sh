#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
"$UNZERO" consolidate --help >text
for option in tag input-dir source strict threads format dtype max-shard-size exclude-frozen \
    max-memory sync dry-run force copy-config json quiet verbose help version; do
    has text "--$option"
done
has text '-t, --tag NAME' '-n, --dry-run' '-f, --force' '-q, --quiet' '-v, --verbose' '-h, --help'
