# SPDX-License-Identifier: Apache-2.0
"""Stock engines load what `unzero reshard` made for their world and stage, have
every weight and state, and train on as an engine of the old world does."""

import argparse
import collections
import functools
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import zipfile

import numpy as np
import pytest
import torch
from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint
from safetensors.torch import load_file

from common import FIXTURES, Expected, run, same_bits
from test_set import resume

# Fixture, ranks, stage.
CASES = [
    ("good-z2-bf16-w2-2groups-tiny", 4, 2),
    ("good-z3-bf16-w2-frozen-tied", 3, 3),
    ("good-z3-bf16-w2-frozen-tied", 2, 2),
    ("good-z2-bf16-w2-sgd", 1, 3),
    ("good-z3-fp16-w4-subgroups", 2, 3),
    ("good-z1-fp32-w4-padding", 2, 1),
    ("good-z2-fp16-w3-roundrobin", 2, 2),
]

# These as well with UNZERO_ALL_RESUMES=1 in the environment: each takes an engine or two.
MORE = [
    ("good-z1-fp32-w4-padding", 3, 3),
    ("good-z1-bf16-w3-roundrobin", 4, 2),
    ("good-z1-bf16opt-w3-2groups", 2, 1),
    ("good-z1-bf16opt-w2", 2, 2),
    ("good-z1-bf16opt-w2", 3, 3),
    ("good-z1-fp16-w2-2groups-tied", 3, 3),
    ("good-z2-bf16-w2-2groups-tiny", 1, 2),
    ("good-z2-bf16-w2-align", 4, 2),
    ("good-z2-bf16-w2-masters-bf16", 4, 2),
    ("good-z1-bf16-w2-frozen", 1, 2),
    ("good-z1-bf16-w2-frozen", 2, 3),
    ("good-z3-bf16-w2-gpt2", 4, 2),
    ("good-z1-bf16-w2-adagrad", 3, 3),
    ("good-z3-bf16-w2-amsgrad", 1, 1),
    ("good-z2-fp32-w3-frozen-special", 2, 3),
    ("uc-z2-bf16-w2-2groups-tiny", 3, 2),
    ("uc-z3-bf16-w2-tiny", 2, 1),
]
if os.environ.get("UNZERO_ALL_RESUMES"):
    CASES += MORE


def case_of(folder):
    case = json.loads((folder / "case.json").read_text())
    case.pop("steps", None)
    # the same batch everywhere; what the engine has, from its partitions
    return {**case, "data_parallel": 1, "partitions": True, "live": True}


def origin(name):
    """A universal checkpoint's fixture has the truth and the case."""
    return FIXTURES / name.replace("uc-", "good-", 1)


@functools.cache
def old_losses(name):
    """Those of an engine that loads the fixture as it is."""
    with tempfile.TemporaryDirectory() as work:
        return resume(origin(name), case_of(origin(name)),
                      pathlib.Path(work))["losses"]


def truth(name, work):
    """What the live engine said; of states, if it was not asked, what consolidation gives."""
    said = load_file(origin(name) / "expected.safetensors")
    if {key.split("/")[0] for key in said} <= {"fp32", "frozen", "buffer"}:
        run("consolidate", "--state", "all", origin(name), work / "all.safetensors")
        said |= {key: value for key, value in load_file(work / "all.safetensors").items()
                 if key.split("/")[0] not in ("fp32", "frozen", "buffer")}
    return said


def for_stage(case, world, stage):
    zero = {**case["ds"]["zero_optimization"], "stage": stage}
    return {**case, "world": world,
            "ds": {**case["ds"], "zero_optimization": zero}}


def check_values(said, expected):
    """All that the engine says is what the fixture's truth says."""
    states = {key.split("/")[0] for key in expected} - {"frozen", "buffer"}
    seen = set()
    for key, value in said.items():
        kind, _, name = key.partition("/")
        if kind == "live":
            want = expected[name]
            seen.add(name)
        elif kind == "lp" and f"fp32/{name}" in expected:
            want = expected[f"fp32/{name}"]
        elif kind == "lp" and f"frozen/{name}" in expected:
            want = expected[f"frozen/{name}"]
        else:
            continue
        assert same_bits(value.reshape(want.shape), want.to(value.dtype)), key
    assert seen == {key for key in expected if key.split("/")[0] in states}


@pytest.mark.parametrize("name,world,stage", CASES)
def test_engine_trains_on(name, world, stage, tmp_path):
    folder = FIXTURES / name
    case = for_stage(case_of(origin(name)), world, stage)
    config = tmp_path / "ds.json"
    config.write_text(json.dumps(case["ds"]))
    run("reshard", folder, tmp_path / "new", "--dp", world, "--stage", stage,
        "--ds-config", config)
    run("verify", "--data", tmp_path / "new")
    said = resume(tmp_path / "new", case, tmp_path)
    check_values(said, truth(name, tmp_path))
    close = dict(rtol=0.02, atol=0.02) if "bf16" in name or "fp16" in name \
        else dict(rtol=1e-5, atol=1e-5)
    assert torch.allclose(said["losses"], old_losses(origin(name).name), **close), \
        (said["losses"], old_losses(origin(name).name))


def test_an_elastic_engine_loads_shards(tmp_path):
    """They are ordinary ones. What such an engine saves itself it cannot load: the step of PyTorch's
    optimizers is in their states, where DeepSpeed does not look for it."""
    name = "good-z1-fp32-w4-padding"
    case = for_stage(case_of(FIXTURES / name), 2, 1)
    case["ds"]["zero_optimization"]["elastic_checkpoint"] = True
    config = tmp_path / "ds.json"
    config.write_text(json.dumps(case["ds"]))
    run("reshard", FIXTURES / name, tmp_path / "new", "--dp", 2, "--ds-config", config)
    check_values(resume(tmp_path / "new", case, tmp_path), truth(name, tmp_path))
    elastic = FIXTURES / "good-z1-fp16-w2-elastic"
    with pytest.raises(AssertionError, match="step"):
        resume(elastic, case_of(elastic), tmp_path)


def make_nadam(folder):
    """A checkpoint of two groups that keep a number each, as NAdam's do."""
    shutil.copytree(FIXTURES / "good-z2-bf16-w2-2groups-tiny", folder)
    for path in (folder / "global_step4").glob("*_optim_states.pt"):
        value = torch.load(path, weights_only=False)
        base = value["optimizer_state_dict"]["base_optimizer_state"]
        for g, group in enumerate(base["param_groups"]):
            group["momentum_decay"] = 0.004
            base["state"][g]["mu_product"] = torch.tensor(0.5 / (g + 1))
        torch.save(value, path)


def numbers(folder):
    path, = folder.rglob("*zero_pp_rank_1_*_optim_states.pt")
    base = torch.load(path, weights_only=False)["optimizer_state_dict"]["base_optimizer_state"]
    return {g: float(state["mu_product"]) for g, state in base["state"].items()}


def refused(source, out):
    done = subprocess.run([os.environ["UNZERO"], "reshard", source, out, "--dp", "2"], text=True,
                          capture_output=True, timeout=60)
    assert done.returncode == 3 and "mu_product" in done.stderr, done.stderr
    assert not out.exists()


def test_numbers_of_groups_come_along(tmp_path):
    """Also through a universal checkpoint; one that lacks them is refused."""
    make_nadam(tmp_path / "old")
    run("reshard", tmp_path / "old", tmp_path / "straight", "--dp", 3)
    run("universal", tmp_path / "old", tmp_path / "uc")
    run("reshard", tmp_path / "uc", tmp_path / "through", "--dp", 3)
    assert numbers(tmp_path / "straight") == numbers(tmp_path / "through") == {0: 0.5, 1: 0.25}
    path = tmp_path / "uc" / "zero" / "optimizer_state.pt"
    value = torch.load(path, weights_only=False)
    del value["optimizer_state_dict"]["state"][1]["mu_product"]
    torch.save(value, path)
    refused(tmp_path / "uc", tmp_path / "none")
    run("universal", "--dialect", "deepspeed", tmp_path / "old", tmp_path / "theirs")
    refused(tmp_path / "theirs", tmp_path / "none")


@pytest.mark.parametrize("world,stage", [(1, 2), (3, 3), (5, 1)])
@pytest.mark.parametrize("name", [
    "good-z2-bf16-w2-2groups-tiny", "good-z3-bf16-w2-frozen-tied",
    "good-z2-fp16-w3-roundrobin", "good-z1-bf16-w2-frozen", "good-z2-bf16-w2-align",
    "good-container-legacy", "good-z3-bf16-w2-before-first-step"])
def test_the_script_gives_the_same_weights(name, world, stage, tmp_path):
    """DeepSpeed's zero_to_fp32 of what was made; every file is whole."""
    new = tmp_path / "new"
    run("reshard", FIXTURES / name, new, "--dp", world, "--stage", stage)
    got = get_fp32_state_dict_from_zero_checkpoint(str(new))
    for param, want in Expected(FIXTURES / name).params.items():
        assert param in got or not want.numel(), param
        if want.numel():
            assert same_bits(got[param], want), param
    for file in new.rglob("*.pt"):
        assert zipfile.ZipFile(file).testzip() is None, file


Point = collections.namedtuple("Point", "x y")


class Mine:
    """A user's own class."""

    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return self.x == other.x


def test_values_of_a_client_come_along(tmp_path):
    """With the same sharing, cycles and storages."""
    old = tmp_path / "old"
    shutil.copytree(FIXTURES / "good-z2-bf16-w2-2groups-tiny", old)
    file = old / "global_step4" / "mp_rank_00_model_states.pt"
    state = torch.load(file, weights_only=False)
    shared, cycle, weight = [1, 2], {}, state["module"]["emb.weight"]
    cycle["me"] = cycle
    state["client"] = client = {
        "one": shared, "two": shared, "cycle": cycle, "set": {1, 2}, "big": 2 ** 80,
        "numpy": np.arange(5.0), "namespace": argparse.Namespace(x=1),
        "part": torch.arange(6)[1:4], "view": weight.view(-1)[:4],
        "complex": torch.tensor([1 + 2j]), "random": torch.get_rng_state(),
        "default": collections.defaultdict(list, {"k": [1]}), "bytes": b"x",
        "dtype": torch.bfloat16, "size": torch.Size([2, 3]),
        "point": Point(1, [2]), "mine": Mine({"k": (1, 2.5)})}
    torch.save(state, file)
    for stage, name in ((2, "mp_rank_00"), (3, "zero_pp_rank_2_mp_rank_00")):
        new = tmp_path / f"new-{stage}"
        run("reshard", old, new, "--dp", 3, "--stage", stage)
        made = torch.load(new / "global_step4" / f"{name}_model_states.pt", weights_only=False)
        got = made["client"]
        assert list(got) == list(client)
        assert got["one"] is got["two"] and got["cycle"]["me"] is got["cycle"]
        assert got["default"].default_factory is list
        for key in ("part", "view", "complex", "random"):
            assert torch.equal(got[key], client[key]), key
        for key in ("set", "big", "namespace", "bytes", "dtype", "size", "default",
                    "point", "mine"):
            assert got[key] == client[key] and type(got[key]) is type(client[key]), key
        assert np.array_equal(got["numpy"], client["numpy"])
        assert got["part"].storage_offset() == 1
        if stage == 2:
            assert got["view"].untyped_storage().data_ptr() == \
                made["module"]["emb.weight"].untyped_storage().data_ptr()
