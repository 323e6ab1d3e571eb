#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
for name in pytorch_model.bin weights.pt weights.pth; do
    expect 3 consolidate "$TINY" "$name" 2>stderr
    has stderr "unzero: $name: looks like a PyTorch file"
    absent "$name"
done
