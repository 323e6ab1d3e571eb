# SPDX-License-Identifier: Apache-2.0
"""`unzero universal` beside DeepSpeed's converter, and in a real engine."""

import contextlib
import fnmatch
import io
import json
import zipfile
from types import SimpleNamespace

import pytest
import torch
from deepspeed.checkpoint import ds_to_universal

from common import FIXTURES, fixtures, name_of, read, run, same_bits, tag_folder
from test_set import resume

# Fixtures (patterns of names) on which DeepSpeed's converter fails, and why; it must.
PEER_FAILS = {
    "good-container-zst*": "it does not look for compressed files",
    "good-stage0-*": "there are no optimizer shards",
    "good-z0-*": "there are no optimizer shards",
    "good-ds01*-small-group": "a partition that is smaller than its padding",
    "good-ds0145-z2-bf16-w3-tied-frozen": "0-dim parameters",
    "good-ds0196-z1-fp16-w2-tied-2groups": "0-dim parameters",
    "good-states-8bit": "it wants exp_avg",
    "good-z1-bf16-w2-ada*": "it wants exp_avg",
    "good-z2-bf16-w2-muon": "it wants exp_avg",
    "good-z2-bf16-w2-sgd*": "it wants exp_avg",
    "good-z3-bf16-w2-rmsprop": "it wants exp_avg",
    "good-z3-bf16-w2-before-first-step": "it wants exp_avg",
    "good-*-tp2*-frozen": "patterns that name frozen parameters match none of its slices",
    "good-*-elastic": "it takes a list for a dictionary",
    "good-*-moe-two-sizes": "experts of several ranks have one name",
    "good-*-moe-data-first": "experts of several ranks have one name",
    "good-*-moe-ep2": "experts of several ranks have one name",
    "good-*-w2-moe": "experts of several ranks have one name",
    "good-*-pp2-dp2-moe": "experts of several ranks have one name",
    "good-*-w2-moe-frozen": "experts of several ranks have one name",
}

# It executes a call.
PEER_MUST_NOT_RUN = ["good-pickle-inert-system"]

# On these it goes through, and what it makes is not the checkpoint.
PEER_IS_WRONG = {
    "good-*-roundrobin": "it trusts a mapping that is not the buffers'",
    "good-states-1bit": "it takes compressed momenta for moments",
    "good-states-odd-size": "it leaves a state out that is not one of elements",
    "good-z1-bf16-w2-before-first-step": "it takes 16-bit weights for masters",
    "good-z2-bf16-w2-no-step": "it takes 16-bit weights for masters",
}


def matches(folder, patterns):
    return any(fnmatch.fnmatch(folder.name, p) for p in patterns)


def peer(folder, out):
    """ds_to_universal.py, without processes and without its progress."""
    args = SimpleNamespace(
        input_folder=str(tag_folder(folder)), output_folder=str(out),
        num_extract_workers=1, num_merge_workers=1, keep_temp_folder=False,
        strict=True, inject_missing_state=True)
    silence = io.StringIO()
    with contextlib.redirect_stdout(silence), \
            contextlib.redirect_stderr(silence):
        ds_to_universal.main(args)


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*")
                  if p.is_file())


def check_same(a, b, where):
    """Values of a pickle: types, tensors to the bit, keys of dictionaries."""
    assert type(a) is type(b), where
    if torch.is_tensor(a):
        assert a.dtype == b.dtype and a.shape == b.shape, where
        assert same_bits(a, b), where
    elif isinstance(a, dict):
        assert set(a) == set(b), where
        for key in a:
            check_same(a[key], b[key], f"{where}[{key!r}]")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, pair in enumerate(zip(a, b)):
            check_same(*pair, f"{where}[{i}]")
    elif hasattr(a, "__dict__"):
        check_same(vars(a), vars(b), where)
    else:
        assert a == b, where


PEER_RUNS = [folder for folder in fixtures()
             if not matches(folder, [*PEER_MUST_NOT_RUN, *PEER_IS_WRONG])]


@pytest.mark.parametrize("folder", PEER_RUNS, ids=name_of)
def test_files_are_those_of_deepspeed(folder, tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    if matches(folder, PEER_FAILS):
        with pytest.raises(Exception):
            peer(folder, theirs)
        return
    peer(folder, theirs)
    run("universal", "--dialect", "deepspeed", "--sync", "none", folder, ours)
    assert files(ours) == files(theirs)
    for name in files(ours):
        check_same(*(torch.load(d / name, map_location="cpu",
                                weights_only=False) for d in (ours, theirs)),
                   name)


def test_converter_is_wrong(tmp_path):
    """What the list above says of round robin: lp == round(hp) fails."""
    folder = FIXTURES / "good-z2-fp16-w3-roundrobin"
    peer(folder, tmp_path / "theirs")
    run("universal", "--sync", "none", folder, tmp_path / "ours")
    states = tag_folder(folder) / "mp_rank_00_model_states.pt"
    module = torch.load(states, weights_only=False)["module"]
    right = {"ours": 0, "theirs": 0}
    for who in right:
        for path in (tmp_path / who / "zero").rglob("fp32.pt"):
            name = str(path.parent.relative_to(tmp_path / who / "zero"))
            hp = torch.load(path, weights_only=False)["param"]
            if name in module and module[name].numel() > 1:
                right[who] += torch.equal(
                    hp.half().flatten(), module[name].half().flatten())
    assert right["ours"] > right["theirs"]


@pytest.mark.parametrize("name", ["good-z2-bf16-w2-2groups-tiny",
                                  "good-z1-bf16-tp2"])
def test_files_are_sound(name, tmp_path):
    """PyTorch checks no CRCs, zipfile does; a root is the file's stem."""
    run("universal", "--sync", "none", FIXTURES / name, tmp_path / "out")
    made = list((tmp_path / "out").rglob("*.pt"))
    assert len(made) > 30
    for file in made:
        archive = zipfile.ZipFile(file)
        assert archive.testzip() is None, file
        assert {n.split("/")[0] for n in archive.namelist()} == {file.stem}


# A fixture, the number of ranks and the stage that load it, and changes of its case.
LOADS = [
    ("good-z2-bf16-w2-2groups-tiny", 3, 3, {"live": "fp32"}),
    ("good-z3-bf16-w2-tiny", 1, 1, {}),
    ("good-z3-bf16-w2-frozen-tied", 3, 2, {}),
    ("good-z2-bf16-w2-sgd", 3, 1, {}),
]


@pytest.mark.parametrize("name,world,stage,changes", LOADS)
def test_engine_loads(name, world, stage, changes, tmp_path):
    """Another world and stage: all weights and states to the bit, and a step."""
    folder = FIXTURES / name
    (tmp_path / "ckpt").mkdir()
    run("universal", "--sync", "none", folder, tmp_path / "ckpt" / "uc")
    run("consolidate", "--state", "all", "--sync", "none", folder,
        tmp_path / "all.safetensors")
    want = read(tmp_path / "all.safetensors")
    case = json.loads((folder / "case.json").read_text())
    case["world"] = world
    case["ds"]["zero_optimization"] = {"stage": stage}
    case["ds"]["checkpoint"] = {"load_universal": True}
    said = resume(tmp_path / "ckpt", {**case, **changes}, tmp_path)
    seen = [key for key in said if key.startswith("live/")]
    assert seen
    for key in seen:
        value = want[key.removeprefix("live/")]
        assert same_bits(said[key].reshape(value.shape), value), key
