#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the cases of fixtures/gen with the DeepSpeed that is installed and
converts each: weights and every state must have the bits that the oracle finds.

usage: UNZERO=PROGRAM sweep.py [CASE | versions | optimizers ...]

`optimizers` stands for runs with those that DeepSpeed makes itself, `versions` for one
small run of each stage and optimizer wrapper, which is what to run with other versions
of DeepSpeed. What that version's own zero_to_fp32 gives is compared as well, where it
works.

Not a part of the suite: it takes 15 seconds for each case. A case that this version
of DeepSpeed cannot train is told of; only what it trains and the tool does not
convert is a failure.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

os.environ.setdefault("DS_ACCELERATOR", "cpu")
# DeepSpeed before 0.16 loads its own files as torch.load did before 2.6.
os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "fixtures" / "gen"))

import torch  # noqa: E402
from safetensors import safe_open  # noqa: E402

import cases  # noqa: E402
import generate  # noqa: E402

TIED = {**cases.TINY, "n": 2, "tie": True}
VERSIONS = {
    "v-z0-bf16": dict(world=2, ds=cases.ds(0, cases.BF16), model=TIED, seed=101),
    "v-z0-fp32": dict(world=2, ds=cases.ds(0, cases.FP32), model=TIED, seed=102),
    "v-z1-bf16": dict(
        world=2, seed=103, model=TIED, freeze=["blocks.0"],
        ds=cases.ds(1, cases.BF16, {"data_types": {"grad_accum_dtype": "bf16"}})),
    "v-z2-bf16": dict(world=2, seed=104, model=TIED, freeze=["blocks.0"],
                      ds=cases.ds(2, cases.BF16)),
    "v-z3-bf16": dict(world=2, seed=105, model=TIED, freeze=["blocks.0"],
                      ds=cases.ds(3, cases.BF16)),
    "v-z1-fp32-2groups": dict(world=2, seed=106, model=TIED, groups=2, live="fp32",
                              ds=cases.ds(1, cases.FP32)),
    "v-z2-fp32-w3": dict(world=3, seed=107, model=cases.TINY, ds=cases.ds(2, cases.FP32)),
    "v-z3-fp32-subgroups": dict(world=2, seed=108, model=TIED,
                                ds=cases.ds(3, cases.FP32, sub_group_size=100)),
    "v-bf16opt": dict(world=2, seed=109, model=TIED,
                      ds=cases.ds(1, cases.BF16, cases.GRAD32)),
    "v-bf16opt-w3": dict(world=3, seed=110, model=cases.TINY, live=False,
                         ds=cases.ds(1, cases.BF16, cases.GRAD32)),
}
def made_by_ds(kind, **params):
    """An optimizer that DeepSpeed makes from its configuration."""
    return {"optimizer": {"type": kind, "params": {"lr": 0.01, **params}}}


MUON = made_by_ds("Muon", momentum=0.9, torch_adam=True)
LAMB, LION = made_by_ds("Lamb"), made_by_ds("Lion")
OFFLOAD = {"offload_optimizer": {"device": "cpu"}}
OPTIMIZERS = {
    "o-z1-bf16-muon": dict(world=2, seed=121, model=cases.SMALL, live="fp32",
                           ds=cases.ds(1, cases.BF16, MUON)),
    "o-z2-bf16-muon": dict(world=2, seed=122, model=cases.SMALL, live="fp32",
                           ds=cases.ds(2, cases.BF16, MUON)),
    "o-z2-fp32-w3-muon": dict(world=3, seed=123, model=cases.TINY, live="fp32",
                              ds=cases.ds(2, cases.FP32, MUON)),
    "o-z3-bf16-muon": dict(world=2, seed=124, model=cases.SMALL, live="fp32",
                           ds=cases.ds(3, cases.BF16, MUON, reduce_scatter=False)),
    "o-z0-bf16-muon": dict(world=2, seed=125, model=cases.SMALL, ds=cases.ds(0, cases.BF16, MUON)),
    "o-z2-bf16-offload-muon": dict(world=2, seed=140, model=TIED, live="fp32",
                                   ds=cases.ds(2, cases.BF16, MUON, **OFFLOAD)),
    "o-bf16opt-muon": dict(world=2, seed=141, model=TIED, live="fp32",
                           ds=cases.ds(1, cases.BF16, {**MUON, **cases.GRAD32})),
    "o-z0-fp32-muon": dict(world=2, seed=126, model=TIED, ds=cases.ds(0, cases.FP32, MUON)),
    "o-z0-fp16-lamb": dict(world=2, seed=127, model=TIED, freeze=["blocks.0"],
                           ds=cases.ds(0, cases.FP16, LAMB)),
    "o-z0-fp32-lamb": dict(world=2, seed=128, model=TIED, ds=cases.ds(0, cases.FP32, LAMB)),
    "o-z1-fp16-lamb": dict(world=2, seed=129, model=TIED, ds=cases.ds(1, cases.FP16, LAMB)),
    "o-z2-bf16-w3-lamb": dict(world=3, seed=130, model=TIED, ds=cases.ds(2, cases.BF16, LAMB)),
    "o-z3-bf16-lamb": dict(world=2, seed=131, model=TIED, freeze=["blocks.0"],
                           ds=cases.ds(3, cases.BF16, LAMB)),
    "o-bf16opt-lamb": dict(world=2, seed=132, model=TIED,
                           ds=cases.ds(1, cases.BF16, {**LAMB, **cases.GRAD32})),
    "o-z0-bf16-lion": dict(world=2, seed=133, model=TIED, ds=cases.ds(0, cases.BF16, LION)),
    "o-z1-fp16-2groups-lion": dict(world=2, seed=134, model=TIED, groups=2, live="fp32",
                                   ds=cases.ds(1, cases.FP16, LION)),
    "o-z2-fp32-w3-lion": dict(world=3, seed=135, model=TIED, ds=cases.ds(2, cases.FP32, LION)),
    "o-z2-bf16-cpu-lion": dict(world=2, seed=136, model=TIED,
                               ds=cases.ds(2, cases.BF16, LION, **OFFLOAD)),
    "o-z3-bf16-lion": dict(world=2, seed=137, model=TIED,
                           ds=cases.ds(3, cases.BF16, LION, sub_group_size=100)),
    "o-z3-fp16-cpu-lion": dict(world=2, seed=138, model=TIED,
                               ds=cases.ds(3, cases.FP16, LION, **OFFLOAD)),
    "o-bf16opt-lion": dict(world=2, seed=139, model=TIED,
                           ds=cases.ds(1, cases.BF16, {**LION, **cases.GRAD32})),
}
CASES = {**cases.GOOD, **OPTIMIZERS, **VERSIONS}


def read(path):
    with safe_open(path, "pt") as f:
        return {k: f.get_tensor(k) for k in f.keys()}, f.metadata() or {}


def same(a, b):
    a, b = (t.float() if t.is_floating_point() else t for t in (a, b))
    return a.shape == b.shape and a.dtype == b.dtype and (
        not a.numel() or torch.equal(a.reshape(-1).view(torch.uint8),
                                     b.reshape(-1).contiguous().view(torch.uint8)))


def convert(folder, out, *options):
    done = subprocess.run([os.environ["UNZERO"], "consolidate", "-q", "--sync",
                           "none", str(folder), str(out), *options],
                          text=True, stderr=subprocess.PIPE)
    if done.returncode:
        raise ValueError(done.stderr.strip())
    return read(out / "model.safetensors")[0]


def faults(folder, work):
    """Lines that say what the tool's output lacks."""
    expected, metadata = read(folder / "expected.safetensors")
    shared = json.loads(metadata["shared"])
    lines = []
    for state in {key.split("/")[0] for key in expected} - {"frozen", "buffer"}:
        got = convert(folder, work / state,
                      *([] if state == "fp32" else ["--state", state]))
        kinds = ("fp32", "frozen") if state == "fp32" else (state,)
        for key, want in expected.items():
            kind, name = key.split("/", 1)
            names = [name] + [a for a, h in shared.items() if h == name]
            found = [got[n] for n in names if n in got]
            if kind in kinds and not (found and all(same(t, want) for t in found)):
                lines.append(f"{key}: {'other bits' if found else 'missing'}")
    return lines


def ask_peer(folder, work):
    """How the weights compare with what zero_to_fp32 of this version gives."""
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint
    try:
        peer = get_fp32_state_dict_from_zero_checkpoint(str(folder))
    except Exception as problem:
        return [], f"zero_to_fp32 fails: {type(problem).__name__}: {str(problem)[:60]}"
    got = convert(folder, work / "untied", "--untie", "--buffers", "fp32")
    frozen = {k.split("/", 1)[1] for k in read(folder / "expected.safetensors")[0]
              if k.startswith("frozen/")}
    lines = [f"{name}: not what zero_to_fp32 gives" for name, tensor in peer.items()
             if name not in got or not same(got[name].to(tensor.dtype), tensor)]
    lines += [f"{name}: zero_to_fp32 has it not" for name in got.keys() - peer.keys() - frozen]
    return lines, f"{len(peer)} tensors as zero_to_fp32"


def why(output):
    """The line of a failed run's output that names the exception."""
    lines = [line for line in output.splitlines() if re.search(r"\w(Error|Exception)\b: ", line)]
    return re.sub(r"^\[rank\d+\]: *", "", (lines or output.splitlines())[0])[:160]


def run(name):
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        try:
            generate.make("sweep", CASES[name], work)
        except (Exception, SystemExit) as problem:
            return True, f"not made: {why(str(problem))}"
        peer = ""
        try:
            lines = faults(work / "sweep", work)
            more, peer = ask_peer(work / "sweep", work)
            lines += more
        except ValueError as problem:
            lines = [str(problem)]
        return not lines, "\n  ".join(lines) or f"ok; {peer}"


def main():
    failed = 0
    print(generate.versions(), flush=True)
    names = sys.argv[1:] or cases.GOOD
    for name in {"versions": VERSIONS, "optimizers": OPTIMIZERS}.get(names[0], names):
        good, text = run(name)
        failed += not good
        print(f"{name}: {text}", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
