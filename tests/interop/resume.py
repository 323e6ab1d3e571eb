# SPDX-License-Identifier: Apache-2.0
"""Runs on each rank (ranks.py, or torchrun): an engine as in CASE.json loads a checkpoint.

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


def joined(partition):
    """The flat tensor whose equal parts the ranks have."""
    own = partition.detach().contiguous().view(torch.uint8)
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    torch.distributed.all_gather(parts, own)
    return torch.cat(parts).view(partition.dtype)


def ask_partitions(engine):
    """Full values of ZeRO 1 and 2 from the partitions that the optimizer steps on, and where the
    engine's own buffers have the parameters: the getters trust a mapping that round robin makes
    wrong, and know no states before a step."""
    wrapper, said = engine.optimizer, {}
    partitions = getattr(wrapper, "single_partition_of_fp32_groups", None)
    groups = getattr(wrapper, "round_robin_bit16_groups", None)
    if partitions is None:  # BF16_Optimizer
        partitions, groups = wrapper.fp32_groups_flat_partition, wrapper.bf16_groups
    for g, partition in enumerate(partitions):
        flat = {"fp32": joined(partition)}
        for key, value in wrapper.optimizer.state[partition].items():
            if torch.is_tensor(value) and value.shape == partition.shape:
                flat[key] = joined(value)
        offset = 0
        offsets = getattr(wrapper, "round_robin_bit16_offsets", None)
        for i, param in enumerate(groups[g]):
            first = offsets[g][i] if offsets else offset
            offset += param.numel()
            for key, whole in flat.items():
                said[f"live/{key}/{engine.param_names[param]}"] = \
                    whole[first:first + param.numel()].clone()
    return said


def main():
    case = json.loads(pathlib.Path(sys.argv[1]).read_text())
    train.allow_fp16()
    train.spare_the_compiler()
    deepspeed.init_distributed(dist_backend="gloo")
    engine = train.make_engine(case)
    strict = not case.get("exclude_frozen")
    path, _ = engine.load_checkpoint(sys.argv[2], load_module_strict=strict)
    assert path, "nothing was loaded"
    if case["ds"]["zero_optimization"]["stage"] in (1, 2) and case.get("partitions"):
        said = train.ask_engine(engine, {**case, "live": False})
        said |= ask_partitions(engine)
    else:
        said = train.ask_engine(engine, case)
    data = train.batches(case)
    losses = [train.train_step(engine, case, data) for _ in range(3)]
    said["losses"] = torch.stack([loss.detach().float() for loss in losses])
    if dist.get_rank() == 0:
        torch.save(said, sys.argv[3])
    dist.barrier()


if __name__ == "__main__":
    main()
