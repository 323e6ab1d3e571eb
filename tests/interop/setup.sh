#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes the Python environment of the interop tests and fixture generator.
# usage: setup.sh VENV [pip options, e.g. an index with CPU builds of torch]
set -eu
venv=${1:?usage: setup.sh VENV [pip options]}
shift
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
rest=$(mktemp)
trap 'rm -f "$rest"' EXIT

pick() {
	grep "^$1==" "$here/requirements.txt"
}

grep -v -e '^#' -e '^torch==' -e '^deepspeed==' "$here/requirements.txt" > "$rest"
python3 -m venv "$venv"
"$venv/bin/pip" install "$@" "$(pick torch)"
"$venv/bin/pip" install "$@" -r "$rest"
DS_BUILD_OPS=0 "$venv/bin/pip" install "$@" --no-build-isolation "$(pick deepspeed)"
"$venv/bin/python" -c 'import deepspeed, safetensors, torch, transformers'
