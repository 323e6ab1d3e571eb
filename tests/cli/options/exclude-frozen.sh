#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate "$FROZEN" all
consolidate --exclude-frozen "$FROZEN" some >stdout
has stdout "left out: 5 names of frozen parameters"
[ "$(size some/model.safetensors)" -lt "$(size all/model.safetensors)" ] || fail "not smaller"
