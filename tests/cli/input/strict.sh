#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What is missing in the checkpoint is a warning, and an error on request.
excluded=$FIXTURES/good-z3-frozen-not-saved
consolidate "$excluded" out 2>stderr
has stderr 'warning: ' 'exclude_frozen_parameters'
expect 3 consolidate --strict "$excluded" none 2>stderr
has stderr 'exclude_frozen_parameters' '--strict'
absent none
# what speaks of other tools only stays a warning
consolidate --strict "$FIXTURES/good-z2-fp16-w3-roundrobin" round 2>stderr
has stderr 'warning: ' 'round_robin_gradients'
# known only when all is written: nothing has its name yet
expect 3 consolidate --strict --dtype fp16 "$FIXTURES/good-z2-fp32-w3-frozen-special" some 2>stderr
has stderr 'became infinite' '--strict'
[ ! -e some ] || holds some
