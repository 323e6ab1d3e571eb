#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the cases of fixtures/gen with the DeepSpeed that is installed and
converts each: weights and every state must have the bits that the oracle finds.

usage: UNZERO=PROGRAM sweep.py [CASE ...]

Not a part of the suite: it takes 15 seconds for each case. A case that this version
of DeepSpeed cannot train is told of; only what it trains and the tool does not
convert is a failure.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("DS_ACCELERATOR", "cpu")
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "fixtures" / "gen"))

import torch  # noqa: E402
from safetensors import safe_open  # noqa: E402

import cases  # noqa: E402
import generate  # noqa: E402


def read(path):
    with safe_open(path, "pt") as f:
        return {k: f.get_tensor(k) for k in f.keys()}, f.metadata() or {}


def same(a, b):
    b = b.float() if b.is_floating_point() else b
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


def run(name):
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        try:
            generate.make("sweep", cases.GOOD[name], work)
        except (Exception, SystemExit) as problem:
            return True, f"not made: {str(problem).strip().splitlines()[-1][:120]}"
        try:
            lines = faults(work / "sweep", work)
        except ValueError as problem:
            lines = [str(problem)]
        return not lines, "\n  ".join(lines) or "ok"


def main():
    failed = 0
    print(generate.versions(), flush=True)
    for name in sys.argv[1:] or cases.GOOD:
        good, text = run(name)
        failed += not good
        print(f"{name}: {text}", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
