#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What an NVMe-offloaded optimizer leaves are the 16-bit weights; the refusal says so.
expect 3 consolidate "$FIXTURES/unsupported-nvme" out 2>stderr
has stderr "--source lp"
absent out
consolidate --source lp "$FIXTURES/unsupported-nvme" out
holds out model.safetensors
