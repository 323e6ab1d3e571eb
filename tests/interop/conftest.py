# SPDX-License-Identifier: Apache-2.0
"""The interop suite wants the tool (environment: UNZERO) and all its peers;
without them it fails, so that nothing is left out unseen."""

import os
import pathlib
import sys
import tempfile

import pytest

os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# DeepSpeed builds its operators there, under a lock that a killed build leaves behind for ever
EXTENSIONS = tempfile.TemporaryDirectory(prefix="torch-extensions-")
os.environ["TORCH_EXTENSIONS_DIR"] = EXTENSIONS.name
HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / "fixtures" / "gen")]

import deepspeed  # noqa: E402,F401
import huggingface_hub  # noqa: E402,F401
import safetensors  # noqa: E402,F401
import torch  # noqa: E402
import transformers  # noqa: E402,F401

torch.set_num_threads(1)


def pytest_configure(config):
    tool = os.environ.get("UNZERO")
    if not tool or not os.access(tool, os.X_OK):
        raise pytest.UsageError("UNZERO must name the unzero program")
