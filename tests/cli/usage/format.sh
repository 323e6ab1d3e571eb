#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
"$UNZERO" consolidate --format onnx a b
