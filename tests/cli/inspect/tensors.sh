#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Names, shapes, dtypes; of a safetensors file, too.
"$UNZERO" inspect --tensors "$TINY/expected.safetensors" >out
has out 'safetensors file' 'fp32/emb.weight' 'weights  fp32'
"$UNZERO" inspect --tensors "$FROZEN" >out
has out 'head.weight = emb.weight' 'frozen   bf16'
