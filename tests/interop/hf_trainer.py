# SPDX-License-Identifier: Apache-2.0
"""Runs under torchrun: a transformers Trainer with DeepSpeed, new or resumed.

usage: torchrun --nproc_per_node N hf_trainer.py OUT STAGE LOSSES.json [CHECKPOINT]

Saves after the fourth of six steps. The batch of a step is the same for every
number of ranks. LOSSES.json gets {step: loss} of the steps that were made.
"""

import json
import os
import sys

import torch
from transformers import (LlamaConfig, LlamaForCausalLM, Trainer,
                          TrainerCallback, TrainingArguments)

BATCH, STEPS, SAVED = 4, 6, 4


def deepspeed_config(stage):
    adam = {"lr": "auto", "betas": "auto", "eps": "auto",
            "weight_decay": "auto", "torch_adam": True}
    return {
        "zero_optimization": {"stage": stage},
        "train_micro_batch_size_per_gpu": "auto",
        "train_batch_size": "auto",
        "gradient_accumulation_steps": "auto",
        "optimizer": {"type": "AdamW", "params": adam},
        "zero_allow_untested_optimizer": True,
    }


def make_model():
    torch.manual_seed(5)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24,
        num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        max_position_embeddings=32))


def make_data():
    gen = torch.Generator().manual_seed(1)
    for _ in range(BATCH * STEPS):
        tokens = torch.randint(0, 8, (16,), generator=gen)
        yield {"input_ids": tokens, "labels": tokens}


class Losses(TrainerCallback):
    def __init__(self):
        self.of_step = {}

    def on_log(self, args, state, control, logs=None, **rest):
        if "loss" in logs:
            self.of_step[state.global_step] = logs["loss"]


def main():
    out, stage, losses_file, *checkpoint = sys.argv[1:]
    losses = Losses()
    args = TrainingArguments(
        out, deepspeed=deepspeed_config(int(stage)), use_cpu=True,
        ddp_backend="gloo", max_steps=STEPS, save_steps=SAVED,
        per_device_train_batch_size=BATCH // int(os.environ["WORLD_SIZE"]),
        learning_rate=3e-2, warmup_steps=1, logging_steps=1, report_to=[],
        disable_tqdm=True, seed=7, data_seed=7)
    trainer = Trainer(model=make_model(), args=args,
                      train_dataset=list(make_data()), callbacks=[losses])
    trainer.train(resume_from_checkpoint=checkpoint[0] if checkpoint else None)
    if trainer.is_world_process_zero():
        with open(losses_file, "w", encoding="utf-8") as file:
            json.dump(losses.of_step, file)


if __name__ == "__main__":
    main()
