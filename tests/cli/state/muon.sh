#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Momenta that several ranks keep whole: of another size, or not the same; other states convert.
refused()
{
    fixture=$FIXTURES/refused-state-muon-$1
    for state in momentum_buffer all; do
        expect 3 consolidate --state $state "$fixture" out 2>stderr
        has stderr "$2"
        absent out
    done
    consolidate -q --state exp_avg "$fixture" "$1" 2>stderr
    has stderr "warning: the optimizer keeps no state exp_avg of 4 parameters"
}
refused size "neither those of its partition nor of all parameters in it"
refused differ "head.weight, state momentum_buffer is to be the same on all ranks"
refused tp2 "under model parallelism; the weights and other states are"
