# SPDX-License-Identifier: Apache-2.0
"""Puts unzero in the place of DeepSpeed's converter, in every process.

With this folder on PYTHONPATH Python runs this file when it starts, so that
the processes which DeepSpeed's tests spawn have it, too. When
deepspeed.utils.zero_to_fp32 is imported its three functions are replaced by
ones that run the program named by UNZERO, and when
deepspeed.checkpoint.ds_to_universal is, its main function (UNZERO_DIALECT
tells which dialect is made). bf16 and fp16 are allowed on every CPU. Each call leaves a line in the file named by
UNZERO_CALLS: a run that replaced nothing proves nothing.
"""

import fcntl
import importlib.abc
import importlib.util
import os
import subprocess
import sys
import tempfile

def call(*command):
    command = [os.environ["UNZERO"], *map(str, command)]
    with open(os.environ["UNZERO_CALLS"], "a", encoding="utf-8") as calls:
        calls.write(" ".join(command) + "\n")
    subprocess.run(command, check=True)


def universal(args):
    options = ["--inject-missing-state"] if args.inject_missing_state else []
    call("universal", "--sync", "none", "--dialect",
         os.environ.get("UNZERO_DIALECT", "any"), *options,
         args.input_folder, args.output_folder)


def unzero(source, out, tag, exclude_frozen, *options):
    chosen = ["--tag", tag] if tag is not None else []
    if exclude_frozen:
        chosen.append("--exclude-frozen")
    call("consolidate", *chosen, "--force", "--sync", "none", *options, source,
         out)


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

    def __init__(self, module, functions, within=None):
        self.module, self.functions, self.within = module, functions, within

    def find_spec(self, name, path, target=None):
        if name != self.module:
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
        owner = getattr(module, self.within) if self.within else module
        for name, ours in self.functions.items():
            getattr(owner, name)  # what is not there is not replaced
            setattr(owner, name, ours)


if "UNZERO_CALLS" in os.environ:
    sys.meta_path[:0] = [
        Replacer("deepspeed.utils.zero_to_fp32", {
            "convert_zero_checkpoint_to_fp32_state_dict": convert,
            "get_fp32_state_dict_from_zero_checkpoint": state_dict,
            "load_state_dict_from_zero_checkpoint": load}),
        Replacer("deepspeed.checkpoint.ds_to_universal", {"main": universal}),
        # the tests want CUDA for bf16, the engine fp16 instructions for fp16: PyTorch does without
        Replacer("unit.util", {"bf16_required_version_check": lambda *_, **__: True}),
        Replacer("deepspeed.accelerator.cpu_accelerator",
                 {"is_fp16_supported": lambda self: True}, "CPU_Accelerator")]
