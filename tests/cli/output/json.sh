#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate --json --threads 2 "$FROZEN" out >stdout
[ "$(wc -l <stdout)" -eq 1 ] || fail "not one line"
nbytes=$(size out/model.safetensors)
has stdout '{"schema":1,"command":"consolidate",' '"out":"out",' '"tag":"global_step3",' \
    '"ds_version":"0.19.8",' '"zero_stage":3,' '"world_size":2,' '"format":"safetensors",' '"dtype":"fp32",' \
    '"dry_run":false,' "\"files\":[{\"name\":\"model.safetensors\",\"bytes\":$nbytes,\"tensors\":17}]," \
    '"tensors":17,' '"data_bytes":' "\"file_bytes\":$nbytes," '"memory_bytes":' '"threads":2,' \
    '"tied":[{"name":"head.weight","kept":"emb.weight"}],' '"frozen_excluded":0,' '"left_out":[],' '"renamed":[],' \
    '"overflows":0,' '"warnings":[],' '"seconds":'
grep -q '}$' stdout || fail "no end"
