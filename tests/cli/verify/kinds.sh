#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Universal checkpoints and weights are looked at, too.
consolidate --max-shard-size 200 "$TINY" folder >text 2>&1
consolidate --format pt "$TINY" torch >text 2>&1
check()
{
    expect 0 "$UNZERO" verify --data --strict "$1" >text
    has text "$2" "sound: 0 errors, 0 warnings"
    expect 0 "$UNZERO" verify --json "$1" >json
    has json "\"kind\":\"$3\"" '"sound":true'
}
check folder "folder of weights, 4 files" folder
check folder/model.safetensors.index.json "folder of weights, 4 files" folder
check folder/model-00001-of-00004.safetensors "safetensors file" safetensors
check torch/pytorch_model.bin "PyTorch file" torch
check "$FIXTURES/uc-z2-bf16-w2-2groups-tiny" "universal checkpoint, ZeRO stage 2" universal
"$UNZERO" universal --sync none "$TINY" universal >text 2>&1
check universal "universal checkpoint, ZeRO stage 2" universal
"$UNZERO" universal --sync none "$FROZEN" universal3 >text 2>&1
check universal3 "universal checkpoint, ZeRO stage 3" universal
"$UNZERO" reshard --dp 3 --sync none "$TINY" resharded >text 2>&1
check resharded "ZeRO stage 2, 3 data-parallel" zero
rm folder/model-00002-of-00004.safetensors
expect 1 "$UNZERO" verify folder >text
has text "UZV061 (missing-file)" "folder/model-00002-of-00004.safetensors"
