#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate --force "$TINY" out
holds out model.safetensors
