#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
consolidate --quiet "$FROZEN" a
consolidate -q "$FROZEN" b
consolidate -q -n "$FROZEN" c
holds a model.safetensors
