#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate --dry-run "$TINY" out >stdout
consolidate -n "$TINY" deep/down/out >>stdout
consolidate -n "$TINY" file.safetensors >>stdout
holds . stdout
