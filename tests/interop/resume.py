# SPDX-License-Identifier: Apache-2.0
"""Runs under torchrun: an engine as in CASE.json loads a checkpoint.

usage: torchrun --nproc_per_node N resume.py CASE.json CHECKPOINT SAID.pt

SAID.pt gets what the engine says right after loading (live/<state>/<name>,
lp/<name>); then it trains on for a few steps, whose losses it gets, too.
"""

import json
import pathlib
import sys

import torch

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "fixtures" / "gen"))

import deepspeed  # noqa: E402
from deepspeed import comm as dist  # noqa: E402

import train  # noqa: E402


def main():
    case = json.loads(pathlib.Path(sys.argv[1]).read_text())
    train.allow_fp16()
    train.spare_the_compiler()
    deepspeed.init_distributed(dist_backend="gloo")
    engine = train.make_engine(case)
    strict = not case.get("exclude_frozen")
    path, _ = engine.load_checkpoint(sys.argv[2], load_module_strict=strict)
    assert path, "nothing was loaded"
    said = train.ask_engine(engine, case)
    data = train.batches(case)
    losses = [train.train_step(engine, case, data) for _ in range(3)]
    said["losses"] = torch.stack([loss.detach().float() for loss in losses])
    if dist.get_rank() == 0:
        torch.save(said, sys.argv[3])
    dist.barrier()


if __name__ == "__main__":
    main()
