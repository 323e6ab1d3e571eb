#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# All names are written, so none is told of as left out.
consolidate --json --format pt "$FROZEN" out >stdout
nbytes=$(size out/pytorch_model.bin)
has stdout '"format":"pt",' '"tied":[],' '"tensors":18,' \
    "\"files\":[{\"name\":\"pytorch_model.bin\",\"bytes\":$nbytes,\"tensors\":18}],"
