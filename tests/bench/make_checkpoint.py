#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a large real ZeRO checkpoint for benchmarks.

usage: make_checkpoint.py OUT [--stage 2] [--ranks 2] [--params 439e6]

Trains a Llama of about that many parameters for two steps with DeepSpeed on
the CPU (bf16, Adam) and saves it: about 14 bytes a parameter on disk, 50 in
memory. Needs the environment that tests/interop/setup.sh makes.
"""

import argparse
import os
import pathlib
import subprocess
import sys


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--stage", type=int, default=2, choices=(1, 2, 3))
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--params", type=float, default=439e6)
    return parser.parse_args()


def launch(args):
    torchrun = pathlib.Path(sys.executable).with_name("torchrun")
    env = dict(os.environ, DS_ACCELERATOR="cpu", OMP_NUM_THREADS="1")
    command = [str(torchrun), "--standalone", "--nproc_per_node",
               str(args.ranks), __file__, *sys.argv[1:]]
    return subprocess.run(command, env=env).returncode


def config_for(params):
    """A Llama with as many layers as come nearest to `params`."""
    from transformers import LlamaConfig
    hidden = 1024 if params >= 100e6 else 128
    config = LlamaConfig(
        vocab_size=32 * hidden, hidden_size=hidden,
        intermediate_size=4 * hidden, num_attention_heads=16,
        num_key_value_heads=8, max_position_embeddings=64)
    kv = hidden // 2
    layer = 2 * hidden ** 2 + 2 * hidden * kv + 12 * hidden ** 2 + 2 * hidden
    rest = 2 * config.vocab_size * hidden + hidden
    config.num_hidden_layers = max(1, round((params - rest) / layer))
    return config


def ds_config(stage):
    return {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": stage},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": True},
    }


def train(args):
    import torch

    import deepspeed
    from transformers import LlamaForCausalLM
    deepspeed.init_distributed(dist_backend="gloo")
    torch.manual_seed(1)
    config = config_for(args.params)
    model = LlamaForCausalLM(config).bfloat16()
    count = sum(p.numel() for p in model.parameters())
    # foreach would hold several temporaries of the size of the whole state
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, foreach=False)
    engine, _, _, _ = deepspeed.initialize(model=model, optimizer=optimizer,
                                           config=ds_config(args.stage))
    for _ in range(2):
        tokens = torch.randint(config.vocab_size, (1, 8))
        engine.backward(engine(input_ids=tokens, labels=tokens).loss)
        engine.step()
    engine.save_checkpoint(str(args.out), tag="global_step2")
    if deepspeed.comm.get_rank() == 0:
        config.to_json_file(args.out / "config.json")
        print(f"{count} parameters, {config.num_hidden_layers} layers")


def main():
    args = arguments()
    if "LOCAL_RANK" not in os.environ:
        sys.exit(launch(args))
    train(args)


if __name__ == "__main__":
    main()
