#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate -n --json "$TINY" out >stdout
consolidate "$TINY" out
has stdout "\"file_bytes\":$(size out/model.safetensors),"
has stdout "{\"name\":\"model.safetensors\",\"bytes\":$(size out/model.safetensors),\"tensors\":11}"
