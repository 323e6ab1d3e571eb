# SPDX-License-Identifier: Apache-2.0
"""A real engine resumes from what `unzero set` made, and has the new values."""

import json

import numpy as np
import pytest
import torch

from common import FIXTURES, Expected, run, same_bits
from ranks import run_ranks

# Fixture, and the parameter that is set: cut by a rank's boundary, or held in part by each rank.
CASES = {
    "good-z1-fp32-w4-padding": "blocks.0.up.weight",
    "good-z2-bf16-w2-2groups-tiny": "blocks.0.ln.bias",
    "good-z3-bf16-w2-frozen-tied": "blocks.0.up.weight",
}


def resume(folder, case, work):
    """What the engine says after loading."""
    case_file, said = work / "case.json", work / "said.pt"
    case_file.write_text(json.dumps(case))
    run_ranks(case["world"], work, [case_file, folder, said])
    return torch.load(said)


def new_values(shape, seed):
    gen = torch.Generator().manual_seed(seed)
    return torch.randn(tuple(shape), generator=gen)


@pytest.mark.parametrize("name", CASES)
def test_engine_has_the_new_values(name, tmp_path):
    folder, param = FIXTURES / name, CASES[name]
    case = json.loads((folder / "case.json").read_text())
    state = "exp_avg"
    expected = Expected(folder)
    weight = new_values(expected.params[param].shape, 1)
    moment = new_values(expected.params[param].shape, 2)
    np.save(tmp_path / "w.npy", weight.numpy())
    np.save(tmp_path / "m.npy", moment.numpy())
    run("set", folder, param, tmp_path / "w.npy", "--output", tmp_path / "one")
    run("set", tmp_path / "one", param, tmp_path / "m.npy", "--state", state,
        "--output", tmp_path / "two")
    said = resume(tmp_path / "two", {**case, "live": case.get("live", True)},
                  tmp_path)
    assert same_bits(said["live/fp32/" + param].reshape(weight.shape), weight)
    lp = said["lp/" + param]
    assert same_bits(lp, weight.to(lp.dtype))
    if case.get("live", True) is True:
        key = f"live/{state}/{param}"
        assert same_bits(said[key].reshape(moment.shape), moment)
    for other, value in expected.params.items():
        key = "live/fp32/" + other
        if other != param and key in said:
            assert torch.equal(said[key].reshape(value.shape), value), other


@pytest.mark.parametrize("name", ["good-z2-bf16-w2-2groups-tiny",
                                  "good-z3-bf16-w2-tiny"])
def test_files_are_sound(name, tmp_path):
    """PyTorch checks no CRCs, zipfile does."""
    import zipfile
    folder = FIXTURES / name
    param = "blocks.0.up.weight"
    shape = Expected(folder).params[param].shape
    np.save(tmp_path / "w.npy", new_values(shape, 3).numpy())
    run("set", folder, param, tmp_path / "w.npy", "--output", tmp_path / "new")
    files = list((tmp_path / "new").rglob("*.pt"))
    assert files
    for file in files:
        assert zipfile.ZipFile(file).testzip() is None, file
        torch.load(file, map_location="cpu", weights_only=False)
    run("get", tmp_path / "new", param, "-o", tmp_path / "got.npy")
    assert np.array_equal(np.load(tmp_path / "got.npy"),
                          np.load(tmp_path / "w.npy"))


# Fixture, tensor, and how many files hold a whole copy of it, as PyTorch reads them.
COPIES = [
    ("good-z1-bf16-tp2", "model.norm.weight", 2),
    ("good-z2-bf16-tp2-dp2", "model.layers.0.input_layernorm.weight", 2),
    ("good-z3-bf16-w2-frozen-tied", "blocks.0.scale", 2),
    ("good-z3-bf16-w4-hpz", "blocks.0.scale", 4),
    ("uc-z2-bf16-w2-2groups-tiny", "blocks.0.ln.weight", 2),
]


@pytest.mark.parametrize("name,tensor,n_files", COPIES,
                         ids=[c[0] for c in COPIES])
def test_all_copies(name, tensor, n_files, tmp_path):
    """Every file that PyTorch finds a whole copy in has the new values."""
    folder = FIXTURES / name
    run("get", folder, tensor, "-o", tmp_path / "old.npy")
    shape = np.load(tmp_path / "old.npy").shape
    new = new_values(shape, 4)
    np.save(tmp_path / "new.npy", new.numpy())
    run("set", folder, tensor, tmp_path / "new.npy", "--output",
        tmp_path / "new")
    found = 0
    for file in (tmp_path / "new").rglob("*.pt"):
        held = torch.load(file, map_location="cpu", weights_only=False)
        if file.name == "fp32.pt" and file.parent.name == tensor:
            copy = held["param"]
        elif isinstance(held, dict) and tensor in (held.get("module") or {}):
            copy = held["module"][tensor]
        else:
            continue
        assert same_bits(copy.reshape(new.shape), new.to(copy.dtype)), file
        found += 1
    assert found == n_files


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int64",
                                   "bool", "uint8", ">f4"])
def test_numpy_reads_and_writes(dtype, tmp_path):
    """What numpy writes is read; shapes of all ranks, 0 included."""
    folder = FIXTURES / "good-z2-bf16-w2-2groups-tiny"
    param = "blocks.0.up.weight"
    shape = tuple(Expected(folder).params[param].shape)
    np.save(tmp_path / "w.npy", np.ones(shape, dtype=dtype))
    done = run("set", folder, param, tmp_path / "w.npy", "--output",
               tmp_path / "new", check=False)
    if dtype in ("float32", "float16", ">f4"):
        assert done.returncode == 0, done.stderr
        run("get", tmp_path / "new", param, "-o", tmp_path / "got.npy")
        assert np.array_equal(np.load(tmp_path / "got.npy"),
                              np.ones(shape, dtype="float32"))
    else:
        assert done.returncode == 3 and "do not become fp32" in done.stderr
        assert not (tmp_path / "new").exists()
