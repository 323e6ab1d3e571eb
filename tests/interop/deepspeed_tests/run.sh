#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs DeepSpeed's own tests of its converters with unzero in the converters' place.
#
# usage: UNZERO=PROGRAM run.sh TESTS [PYTHON [PYTEST-OPTION]...]
#
# TESTS is the folder `tests` of DeepSpeed's repository. PYTHON needs the packages of
# ../requirements.txt and pytest-forked. With UNIVERSAL=1 the tests of universal checkpoints are
# run, UNZERO_DIALECT (any) tells which dialect; options choose some of these (-k ...).
set -eu
tests=${1:?usage: UNZERO=PROGRAM run.sh TESTS [PYTHON [PYTEST-OPTION]...]}
python=${2-python3}
[ "$#" -lt 2 ] || shift
shift
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
UNZERO=$(realpath "${UNZERO:?UNZERO must name the program}")
UNZERO_CALLS=$(mktemp)
trap 'rm -f "$UNZERO_CALLS" "$UNZERO_CALLS.lock"' EXIT
PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH}
DS_ACCELERATOR=cpu LOCAL_SIZE=4 OMP_NUM_THREADS=1
export UNZERO UNZERO_CALLS PYTHONPATH DS_ACCELERATOR LOCAL_SIZE OMP_NUM_THREADS
cd "$tests"
if [ -n "${UNIVERSAL-}" ]; then
    status=0
    "$python" -m pytest -q -p no:cacheprovider -p preload "$@" \
        unit/checkpoint/test_universal_checkpoint.py::TestZeROUniversalCheckpointDP ||
        status=$?
    n_calls=$(wc -l <"$UNZERO_CALLS")
    echo "$n_calls conversions by unzero"
    [ "$n_calls" -gt 0 ]
    exit "$status"
fi
"$python" -m pytest -q -p no:cacheprovider \
    unit/checkpoint/test_convert_checkpoint.py::TestCheckpointConvert \
    unit/checkpoint/test_shared_weights.py::TestCheckpointSharedWeights \
    unit/v1/zero/test_zero.py::TestZeroToFP32
# Ten tests, two ranks each.
n_calls=$(wc -l <"$UNZERO_CALLS")
echo "$n_calls conversions by unzero"
[ "$n_calls" -eq 20 ]
