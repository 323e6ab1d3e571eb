# SPDX-License-Identifier: Apache-2.0
"""Stock engines load what `unzero reshard` made for their world and stage, have
every weight and state, and train on as an engine of the old world does."""

import functools
import json
import tempfile
import pathlib

import pytest
import torch
from safetensors.torch import load_file

from common import FIXTURES, run, same_bits
from test_set import resume

# Fixture, ranks, stage.
CASES = [
    ("good-z2-bf16-w2-2groups-tiny", 1, 2),
    ("good-z2-bf16-w2-2groups-tiny", 4, 2),
    ("good-z3-bf16-w2-frozen-tied", 3, 3),
    ("good-z3-fp16-w4-subgroups", 2, 3),
    ("good-z1-fp32-w4-padding", 2, 1),
    ("good-z3-bf16-w2-frozen-tied", 2, 2),
    ("good-z2-bf16-w2-sgd", 3, 3),
]


def case_of(folder):
    case = json.loads((folder / "case.json").read_text())
    case.pop("steps", None)
    return {**case, "data_parallel": 1}  # the same batch everywhere


@functools.cache
def old_losses(name):
    """Those of an engine that loads the fixture as it is."""
    with tempfile.TemporaryDirectory() as work:
        return resume(FIXTURES / name, case_of(FIXTURES / name),
                      pathlib.Path(work))["losses"]


def for_stage(case, world, stage):
    zero = {**case["ds"]["zero_optimization"], "stage": stage}
    return {**case, "world": world,
            "ds": {**case["ds"], "zero_optimization": zero}}


def check_values(said, expected, case):
    """All that the engine says is what the fixture's truth says."""
    n = 0
    for key, value in said.items():
        kind, _, name = key.partition("/")
        if kind == "live":
            want = expected[name]
        elif kind == "lp" and f"fp32/{name}" in expected:
            want = expected[f"fp32/{name}"].to(value.dtype)
        else:
            continue
        assert same_bits(value.reshape(want.shape), want), key
        n += kind == "live"
    assert n or not case.get("live", True)


@pytest.mark.parametrize("name,world,stage", CASES)
def test_engine_trains_on(name, world, stage, tmp_path):
    folder = FIXTURES / name
    case = for_stage(case_of(folder), world, stage)
    config = tmp_path / "ds.json"
    config.write_text(json.dumps(case["ds"]))
    run("reshard", folder, tmp_path / "new", "--dp", world, "--stage", stage,
        "--ds-config", config)
    run("verify", "--data", tmp_path / "new")
    said = resume(tmp_path / "new", case, tmp_path)
    check_values(said, load_file(folder / "expected.safetensors"), case)
    close = dict(rtol=0.02, atol=0.02) if "bf16" in name or "fp16" in name \
        else dict(rtol=1e-5, atol=1e-5)
    assert torch.allclose(said["losses"], old_losses(name), **close), \
        (said["losses"], old_losses(name))
