# SPDX-License-Identifier: Apache-2.0
"""Puts unzero in the place of DeepSpeed's converter, in every process.

With this folder on PYTHONPATH Python runs this file when it starts, so that
the processes which DeepSpeed's tests spawn have it, too. When
deepspeed.utils.zero_to_fp32 is imported its three functions are replaced by
ones that run the program named by UNZERO. Each call leaves a line in the file
named by UNZERO_CALLS: a run that replaced nothing proves nothing.
"""

import fcntl
import importlib.abc
import importlib.util
import os
import subprocess
import sys
import tempfile

TARGET = "deepspeed.utils.zero_to_fp32"


def unzero(source, out, tag, exclude_frozen, *options):
    command = [os.environ["UNZERO"], "consolidate", "--force", "--sync", "none",
               *options, str(source), str(out)]
    if tag is not None:
        command[2:2] = ["--tag", str(tag)]
    if exclude_frozen:
        command.insert(2, "--exclude-frozen")
    with open(os.environ["UNZERO_CALLS"], "a", encoding="utf-8") as calls:
        calls.write(" ".join(command) + "\n")
    subprocess.run(command, check=True)


def convert(checkpoint_dir, output_dir, max_shard_size="5GB",
            safe_serialization=False, tag=None,
            exclude_frozen_parameters=False):
    # DeepSpeed's test lets every rank convert into one folder, which unzero
    # refuses while another run is writing there: one after another.
    with open(os.environ["UNZERO_CALLS"] + ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        unzero(checkpoint_dir, os.path.join(str(output_dir), ""), tag,
               exclude_frozen_parameters, "--max-shard-size",
               str(max_shard_size or 0), "--format",
               "safetensors" if safe_serialization else "pt")


def state_dict(checkpoint_dir, tag=None, exclude_frozen_parameters=False,
               lazy_mode=False):
    import torch
    assert not lazy_mode
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "weights.bin")
        unzero(checkpoint_dir, path, tag, exclude_frozen_parameters)
        return torch.load(path, weights_only=True)


def load(model, checkpoint_dir, tag=None):
    model = model.cpu()
    model.load_state_dict(state_dict(checkpoint_dir, tag), strict=False)
    return model


class Replacer(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the module as usual, and changes it when it has been loaded."""

    def find_spec(self, name, path, target=None):
        if name != TARGET:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        self.real = spec.loader
        spec.loader = self
        return spec

    def create_module(self, spec):
        return self.real.create_module(spec)

    def exec_module(self, module):
        self.real.exec_module(module)
        for name, ours in (
                ("convert_zero_checkpoint_to_fp32_state_dict", convert),
                ("get_fp32_state_dict_from_zero_checkpoint", state_dict),
                ("load_state_dict_from_zero_checkpoint", load)):
            getattr(module, name)  # what is not there is not replaced
            setattr(module, name, ours)


if "UNZERO_CALLS" in os.environ:
    sys.meta_path.insert(0, Replacer())
