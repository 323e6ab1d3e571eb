#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Asks the real mixed_precision_linkage and tensor_fragment of DeepSpeed 0.19.8
what they make of random parameter lists, and writes the answers down.

    python tests/golden/make_linkage.py [OUTDIR]

linkage_map.txt, a line a case:
    numels offsets start size hp_numel use_offload | answer ... | overlaps
  offsets: '-' for None. answer, one for each parameter: '-' if it is not in the
  partition, INDEX if it only counts, INDEX/LP_START/HP_START/NUMEL if it is
  mapped, '!' if linking raised. overlaps: PARAM@OFFSET, what
  _init_lp_to_hp_mapping returns.

linkage_values.txt, for worlds of ranks with values; see `world` below. Values
come from `values`, which the test computes as well; results are FNV-1a sums of
their bytes.
"""

import functools
import importlib
import random
import struct
import sys
from pathlib import Path

import deepspeed
import torch
from deepspeed.runtime.utils import has_inf_or_nan  # what the optimizers use
from deepspeed.utils import mixed_precision_linkage as linkage

# The package has a class of the module's name.
tensor_fragment = importlib.import_module("deepspeed.utils.tensor_fragment")

N_MAPS = 2800
N_WORLDS = 320
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MASK = (1 << 64) - 1


def splitmix(state):
    while True:
        state = state + 0x9E3779B97F4A7C15 & MASK
        z = state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
        z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
        yield z ^ z >> 31


# Zeros of both signs, infinities, denormals, ties and what overflows in fp16.
SPECIAL = [0x80000000, 0x00000000, 0x7F800000, 0xFF800000, 0x00000001,
           0x33000001, 0x477FF000, 0x3F808000]


def values(seed, numel, dtype="fp32"):
    """numel elements: of 8, one is special, the others lie in 2^-20..2^19."""
    bits = []
    for _, z in zip(range(numel), splitmix(seed)):
        if z >> 61 == 0:
            bits.append(SPECIAL[z & 7])
        else:
            bits.append(z & 0x807FFFFF | (107 + (z >> 32) % 40) << 23)
    fp32 = torch.frombuffer(bytearray(struct.pack(f"<{numel}I", *bits)) or
                            bytearray(4), dtype=torch.float32)[:numel].clone()
    return fp32.to(DTYPES[dtype])


def seed_of(case, rank, what):
    return case * 1000003 + rank * 1009 + what


HP, STATE, LP, GRAD, NEW, FRESH = 1, 2, 100, 200, 300, 400  # `what`


def fnv(*tensors):
    total = 0xCBF29CE484222325
    for tensor in tensors:
        data = tensor.detach().flatten().contiguous().view(torch.uint8)
        for byte in data.tolist():
            total = (total ^ byte) * 0x100000001B3 & MASK
    return f"{total:016x}"


def join(items):
    return ",".join(map(str, items)) or "-"


# ---- Maps ----


def answers(params):
    """What linking left on the parameters; views must begin at the addresses."""
    out = []
    for p in params:
        index = getattr(p, "_index_in_param_group", None)
        mapping = p._hp_mapping
        if mapping is None:
            out.append("-" if index is None else str(index))
            continue
        lp, hp = mapping.lp_fragment_address, mapping.hp_fragment_address
        assert lp.numel == hp.numel == mapping.lp_fragment.numel()
        assert mapping.hp_fragment.numel() == hp.numel
        assert mapping.lp_fragment.storage_offset() == lp.start
        assert mapping.hp_fragment.storage_offset() == hp.start
        out.append(f"{index}/{lp.start}/{hp.start}/{lp.numel}")
    return out


def random_numels(rng, most):
    n = rng.randint(0, 7)
    top = rng.choice([3, 30, 1 << 34]) if most is None else most
    return [0 if rng.random() < 0.15 else rng.randint(1, top)
            for _ in range(n)]


def with_gaps(rng, numels, align=None):
    """Offsets with alignment gaps, in an order of their own."""
    order = list(range(len(numels)))
    if rng.random() < 0.5:
        rng.shuffle(order)
    align = align or rng.choice([1, 2, 4, 16])
    offsets, at = [0] * len(numels), 0
    for i in order:
        offsets[i] = at
        at = -(-(at + numels[i]) // align) * align
    return offsets, at


def random_map(rng):
    numels = random_numels(rng, None)
    offsets, total = None, sum(numels)
    if rng.random() < 0.5:
        offsets, total = with_gaps(rng, numels)
    if rng.random() < 0.5:  # as ZeRO cuts
        world = rng.randint(1, 5)
        size = -(-max(total, 1) // (2 * world)) * 2
        start = rng.randrange(world) * size
    else:
        start = rng.randint(0, total + 2)
        size = 0 if rng.random() < 0.1 else rng.randint(0, total + 2)
        if rng.random() < 0.3 and offsets:
            start = rng.choice(offsets)
    short = rng.random() < 0.1
    hp_numel = max(0, size - rng.randint(0, 3)) if short else size
    return numels, offsets, start, size, hp_numel, rng.random() < 0.4


def write_maps(path, rng):
    lines = []
    for _ in range(N_MAPS):
        numels, offsets, start, size, hp_numel, offload = random_map(rng)
        params = [torch.empty(n, device="meta") for n in numels]
        partition = torch.empty(hp_numel, device="meta")
        overlaps = linkage._init_lp_to_hp_mapping(
            params, start, size, None, offsets, use_offload=offload)
        place = {id(p): i for i, p in enumerate(params)}
        pairs = [f"{place[id(p)]}@{at}" for p, at in overlaps]
        try:
            linkage.link_hp_params(params, partition, {}, {}, offload, 0,
                                   start, size, None, offsets)
            answer = answers(params)
        except (AssertionError, RuntimeError, IndexError):
            answer = ["!"]
        where = "-" if offsets is None else join(offsets)
        if offsets == []:
            where = "="
        lines.append(f"{join(numels)} {where} {start} {size} {hp_numel} "
                     f"{int(offload)} | {' '.join(answer)} | "
                     f"{' '.join(pairs)}\n")
    path.write_text("".join(lines))


# ---- Values ----


class Tracker:
    """Stands for the optimizer that hears of overflows."""

    def __init__(self):
        self.overflow = False

    def update_offload_overflow_tracker(self, value):
        self.overflow = bool(has_inf_or_nan(value))




contributions = []


def collect(buffer, group=None):
    """Instead of an all-reduce: what this rank would give to it."""
    contributions.append(buffer.clone())


LETTER = {ValueError: "V", IndexError: "I", RuntimeError: "R", TypeError: "T"}


def each_rank(ranks, call):
    """Calls for every rank; a letter for each that raised, or None."""
    letters = ""
    for rank in ranks:
        try:
            call(rank)
            letters += "."
        except tuple(LETTER) as error:
            letters += LETTER[type(error)]
    return None if set(letters) <= {"."} else "!" + letters


def full(ranks, get):
    """SUM:EXACT, added up as floats and with every bit kept; or one for both."""
    contributions.clear()
    failed = each_rank(ranks, get)
    if failed:
        return failed
    added = fnv(functools.reduce(torch.add, contributions))
    exact = fnv(sum(c.view(torch.int32) for c in contributions))
    return added if added == exact else f"{added}:{exact}"


class Rank:
    """One rank of a world: its parameters, partition, states and gradients."""

    def __init__(self, w, rank):
        self.w, self.rank = w, rank
        start = rank * w["part"]
        numel = w["part"]
        if w["trimmed"]:
            numel = max(0, min(w["part"], w["total"] - start))
        self.hp = values(seed_of(w["case"], rank, HP), numel, w["hp"])
        self.params = [values(seed_of(w["case"], 0, LP + i), n, w["lp"])
                       for i, n in enumerate(w["numels"])]
        self.gradients, self.other = {}, {}
        dicts = [self.other, self.gradients]
        if w["offload"]:
            dicts.reverse()
        linkage.link_hp_params(self.params, self.hp, dicts[1], dicts[0],
                               w["offload"], w["group"], start, w["part"],
                               "group", w["offsets"])
        self.make_states()
        self.make_gradients()

    def make_states(self):
        numel = self.hp.numel()
        self.states = {}
        for i, (key, kind, dtype) in enumerate(self.w["states"]):
            seed = seed_of(self.w["case"], self.rank, STATE + i)
            self.states[key] = {
                "flat": lambda: values(seed, numel, dtype),
                "long": lambda: values(seed, numel + 1, dtype),
                "square": lambda: values(seed, numel, dtype).reshape(1, -1),
                "scalar": lambda: torch.tensor(3.0),
                "number": lambda: 3,
            }[kind]()
        linkage.lazy_init_hp_params_optimizer_state(
            self.params, self.hp, {self.hp: self.states})

    def make_gradients(self):
        w = self.w
        kind, dtype = w["gradients"]
        if kind == "whole":  # as BF16_Optimizer keeps and counts them
            for i, p in enumerate(self.params):
                p._index_in_param_group = i
        indices = [getattr(p, "_index_in_param_group", None)
                   for p in self.params]
        known = [i for i in indices if i is not None]
        items = [torch.zeros(1, dtype=DTYPES[dtype])] * (max(known) + 1
                                                         if known else 0)
        for i, p in enumerate(self.params):
            if indices[i] is None:
                continue
            numel = 0
            if p._hp_mapping is not None:
                numel = p._hp_mapping.lp_fragment_address.numel
            numel = {"whole": p.numel(), "odd": numel + 1}.get(kind, numel)
            items[indices[i]] = values(
                seed_of(w["case"], self.rank, GRAD + i), numel, dtype)
        self.items = items
        if kind == "short":
            items = items[:-1]
        if kind == "none":
            items = None
        if kind != "missing":
            self.gradients[w["group"]] = items
        for p in self.params:
            p._zero_optimizer = Tracker()

    def keys(self):
        for p in self.params:
            if p._hp_mapping is not None:
                return join(p._hp_mapping.get_optim_state_keys())
        return "?"

    def hashes(self):
        flats = [self.states[key] for key, kind, _ in self.w["states"]
                 if kind == "flat"]
        return " ".join([fnv(self.hp), fnv(*flats), fnv(*self.items),
                         fnv(*self.params)])


def random_world(rng, case):
    numels = random_numels(rng, 24) or [5]
    world = rng.randint(1, 4)
    offsets, total = None, sum(numels)
    if rng.random() < 0.5:
        offsets, _ = with_gaps(rng, numels)
        total = max(map(sum, zip(offsets, numels)))
    keys = ["exp_avg", "exp_avg_sq", "step", "sum", "max_exp_avg_sq"]
    states = [(key, rng.choice(["flat", "flat", "flat", "flat", "long",
                                "square", "scalar", "number"]),
               rng.choice(["fp32", "fp32", "bf16"]))
              for key in keys[:rng.randint(0, 5)]]
    kind = rng.choice(["fragment"] * 8 + ["whole"] * 3 +
                      ["none", "missing", "short", "odd"])
    return {
        "case": case, "numels": numels, "offsets": offsets, "total": total,
        "world": world, "part": -(-max(total, 1) // (2 * world)) * 2,
        "trimmed": rng.random() < 0.5,
        "hp": rng.choice(["fp32", "fp32", "fp32", "bf16", "fp16"]),
        "lp": rng.choice(list(DTYPES)), "offload": rng.random() < 0.4,
        "group": rng.randint(0, 2), "states": states,
        "gradients": (kind, rng.choice(list(DTYPES))),
        "value": rng.choice(["fp32", "fp32", "bf16", "fp16"]),
    }


def world(rng, case):
    """The lines of one world:

    world CASE WORLD PART TRIMMED HP LP OFFLOAD GROUP GRADIENTS DTYPE VALUE
    numels ...
    offsets ... ('-': None)
    states KEY:KIND:DTYPE ...
    rank ANSWER ... KEYS                 one a rank
    get WEIGHT GRADIENT STATE ... NOPE   one a parameter: SUM:EXACT or one
                                         for both, or '!' and a letter for each rank
    set WEIGHT GRADIENT/OVERFLOW STATE ...  '=' or '!'..., OVERFLOW 0 or 1
    end HP STATES GRADIENTS LP           one a rank, after update_lp
    hp HP                                one a rank, after update_hp from
                                         fresh low-precision values
    """
    w = random_world(rng, case)
    ranks = [Rank(w, r) for r in range(w["world"])]
    keys = [s[0] for s in w["states"]]
    out = [f"world {case} {w['world']} {w['part']} {int(w['trimmed'])} "
           f"{w['hp']} {w['lp']} {int(w['offload'])} {w['group']} "
           f"{w['gradients'][0]} {w['gradients'][1]} {w['value']}",
           f"numels {' '.join(map(str, w['numels']))}",
           "offsets " + ("-" if w["offsets"] is None
                         else " ".join(map(str, w["offsets"]))),
           "states " + " ".join(":".join(s) for s in w["states"])]
    for r in ranks:
        out.append(f"rank {' '.join(answers(r.params))} {r.keys()}")
    for i in range(len(w["numels"])):
        got = [full(ranks, lambda r: r.params[i].get_full_hp_param()),
               full(ranks, lambda r: r.params[i].get_full_hp_grad())]
        got += [full(ranks, lambda r: r.params[i].get_full_hp_param(key))
                for key in keys + ["nope"]]
        out.append("get " + " ".join(got))
    for i, n in enumerate(w["numels"]):
        new = [values(seed_of(case, k, NEW + i), n, w["value"])
               for k in range(2 + len(keys))]
        done = [each_rank(ranks, lambda r:
                          r.params[i].set_full_hp_param(new[0])) or "=",
                each_rank(ranks, lambda r:
                          r.params[i].set_full_hp_grad(new[1])) or "="]
        done[1] += f"/{int(any(r.params[i]._zero_optimizer.overflow for r in ranks))}"
        done += [each_rank(ranks, lambda r: r.params[i].set_full_hp_param(
            new[2 + k], key)) or "=" for k, key in enumerate(keys)]
        out.append("set " + " ".join(done))
    for r in ranks:
        for p in r.params:
            if p._hp_mapping is not None:
                p._hp_mapping.update_lp()
        out.append(f"end {r.hashes()}")
    for r in ranks:
        for i, p in enumerate(r.params):
            p.copy_(values(seed_of(case, 0, FRESH + i), p.numel(), w["lp"]))
            if p._hp_mapping is not None:
                p._hp_mapping.update_hp()
        out.append(f"hp {fnv(r.hp)}")
    return "\n".join(out) + "\n"


def main():
    assert deepspeed.__version__ == "0.19.8", deepspeed.__version__
    out = Path(sys.argv[1] if len(sys.argv) > 1
               else Path(__file__).resolve().parent)
    tensor_fragment.dist.all_reduce = collect
    write_maps(out / "linkage_map.txt", random.Random(6))
    rng = random.Random(60)
    (out / "linkage_values.txt").write_text(
        "".join(world(rng, case) for case in range(N_WORLDS)))


if __name__ == "__main__":
    main()
