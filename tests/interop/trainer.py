# SPDX-License-Identifier: Apache-2.0
"""Runs under torchrun: transformers' Trainer with DeepSpeed, from the start or a checkpoint.

usage: torchrun --nproc_per_node N trainer.py CONFIG.json OUT STEPS BATCH [CHECKPOINT]

CONFIG.json is DeepSpeed's configuration; BATCH is the batch size of all ranks together. OUT gets
checkpoint-STEPS, and losses.json the loss of each step.
"""

import json
import os
import sys

import torch
import transformers
from transformers import Trainer, TrainingArguments

WORLD = int(os.environ["WORLD_SIZE"])


def model():
    torch.manual_seed(1)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=48, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=32))


def data():
    tokens = torch.randint(48, (64, 6), generator=torch.Generator().manual_seed(2))
    return [{"input_ids": row, "labels": row} for row in tokens]


def main():
    config, out, steps, batch, *checkpoint = sys.argv[1:]
    arguments = TrainingArguments(
        output_dir=out, max_steps=int(steps), save_steps=int(steps), logging_steps=1,
        per_device_train_batch_size=int(batch) // WORLD, learning_rate=0.01,
        lr_scheduler_type="linear", warmup_steps=1, report_to=[], use_cpu=True,
        deepspeed=config, save_safetensors=False, disable_tqdm=True)
    trainer = Trainer(model=model(), args=arguments, train_dataset=data())
    trainer.train(resume_from_checkpoint=checkpoint[0] if checkpoint else None)
    if trainer.is_world_process_zero():
        losses = {log["step"]: log["loss"] for log in trainer.state.log_history if "loss" in log}
        with open(os.path.join(out, "losses.json"), "w", encoding="utf-8") as file:
            json.dump(losses, file)


if __name__ == "__main__":
    main()
