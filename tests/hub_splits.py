# SPDX-License-Identifier: Apache-2.0
"""Writes tests/hub_splits.inc: how huggingface_hub divides tensors among files, for tests/test_torch_save.c.

usage: python3 tests/hub_splits.py >tests/hub_splits.inc   (huggingface_hub 0.36 and PyTorch)
"""
import random

import torch
from huggingface_hub import split_torch_state_dict_into_shards

FIXED = [  # limit, letters (one for each tensor; the same: the same tensor), bytes of each letter
    (10, "aba", {"a": 4, "b": 6}),
    (10, "abca", {"a": 4, "b": 6, "c": 1}),
    (10, "abcb", {"a": 11, "b": 4, "c": 7}),
    (10, "aab", {"a": 11, "b": 4}),
    (10, "abcdb", {"a": 10, "b": 0, "c": 10, "d": 0}),
    (1, "abab", {"a": 1, "b": 1}),
    (100, "abba", {"a": 1, "b": 0}),
]


def randoms(n):
    rng = random.Random(2)
    for _ in range(n):
        letters = "".join(rng.choice("abcdefgh"[:k]) for k in [rng.randint(2, 8)] for _ in range(rng.randint(1, 8)))
        yield rng.randint(1, 12), letters, {c: rng.choice([0, 1, 3, 5, 8, 13]) for c in letters}


def row(limit, letters, sizes):
    storages = {c: torch.zeros(sizes[c], dtype=torch.uint8) for c in letters}
    state = {str(i): storages[c] for i, c in enumerate(letters)}
    split = split_torch_state_dict_into_shards(state, filename_pattern="m{suffix}", max_shard_size=limit)
    files = sorted(split.filename_to_tensors)
    want = [files.index(split.tensor_to_filename[name]) for name in state]
    numbers = ", ".join(str(sizes[c]) for c in letters), ", ".join(map(str, want))
    return f'{{{limit}, "{letters}", {{{numbers[0]}}}, {{{numbers[1]}}}, {len(files)}}},'


print("/* SPDX-License-Identifier: Apache-2.0 */\n/* Made by hub_splits.py. */")
for case in [*FIXED, *randoms(200)]:
    print(row(*case))
