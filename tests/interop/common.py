# SPDX-License-Identifier: Apache-2.0
"""What the interop tests share: fixtures, running the tool, the oracle."""

import glob
import json
import os
import pathlib
import subprocess

import torch
from safetensors import safe_open

import truth

HERE = pathlib.Path(__file__).resolve().parent
FIXTURES = HERE.parent.parent / "fixtures"

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def fixtures(pattern="good-*"):
    """Folders with an expected.safetensors; those named by the environment
    come on top. A folder without it is an error, not a skip."""
    folders = sorted(FIXTURES.glob(pattern))
    if pattern == "good-*":
        for extra in filter(None, os.environ.get(
                "UNZERO_EXTRA_FIXTURES", "").split(":")):
            found = sorted(glob.glob(extra))
            assert found, f"UNZERO_EXTRA_FIXTURES: nothing matches {extra}"
            folders += map(pathlib.Path, found)
    assert folders, f"no fixtures {pattern}"
    return folders


def name_of(path):
    return path.name


def has_one_module(folder):
    """Experts and pipeline stages come from several files: no dict of a module has their order."""
    return "-moe" not in folder.name and "-pp2" not in folder.name


def run(*args, check=True):
    """Run the tool; its standard error is in the message when it fails."""
    command = [os.environ["UNZERO"], *map(str, args)]
    done = subprocess.run(command, text=True, capture_output=True)
    if check:
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
    return done


def consolidate(source, out, *options):
    run("consolidate", source, out, "--sync", "none", *options)
    return out


def read(path):
    """{name: tensor} of a safetensors file."""
    with safe_open(path, "pt") as f:
        return {name: f.get_tensor(name) for name in f.keys()}


def read_sharded(folder):
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    tensors = {}
    for file in sorted(set(index["weight_map"].values())):
        part = read(folder / file)
        assert all(index["weight_map"][name] == file for name in part)
        assert not set(part) & set(tensors)
        tensors.update(part)
    assert set(tensors) == set(index["weight_map"])
    return tensors, index


# --- the oracle -------------------------------------------------------------

def tag_folder(folder):
    return folder / (folder / "latest").read_text().strip()


class Expected:
    """expected.safetensors, and what the tool has to make of it."""

    def __init__(self, folder):
        with safe_open(folder / "expected.safetensors", "pt") as f:
            tensors = {key: f.get_tensor(key) for key in f.keys()}
            metadata = f.metadata() or {}
        self.folder = folder
        self.fill(tensors, json.loads(metadata.get("shared", "{}")))
        self.lp = json.loads(metadata["lp_dtype"]) if "lp_dtype" in metadata \
            else truth.rebuild(str(tag_folder(folder)))[2]

    def fill(self, tensors, shared):
        pick = lambda kind: {key.split("/", 1)[1]: tensor for key, tensor
                             in tensors.items() if key.startswith(kind + "/")}
        self.params, self.frozen = pick("fp32"), pick("frozen")
        self.buffers = pick("buffer")
        # Zero-element parameters may look tied and yet have their own data.
        self.shared = {alias: holder for alias, holder in shared.items()
                       if alias not in self.params | self.frozen}

    def convert(self, name, tensor, dtype):
        if dtype == "keep":
            return tensor.to(getattr(torch, self.lp[name]))
        return tensor.to(DTYPES[dtype])

    def output(self, dtype="fp32", frozen=True):
        """{name: tensor} as the tool has to write it, tied names resolved."""
        out = dict(self.buffers)
        for name, tensor in self.params.items():
            out[name] = self.convert(name, tensor, dtype)
        for name, tensor in self.frozen.items() if frozen else ():
            out[name] = self.convert(name, tensor, dtype)
        for holder, kept in self.kept_names().items():
            if holder in out:
                out[kept] = out.pop(holder)
        return out

    def in_module_order(self, tensors):
        """A tied tensor stands in its holder's place."""
        kept = self.kept_names()
        order = [kept.get(name, name) for name in self.lp
                 if name not in self.shared]
        return {name: tensors[name] for name in order if name in tensors}

    def dropped_names(self):
        """{name left out: name it is stored under}, as save_model notes it."""
        kept = self.kept_names()
        pairs = [(name, kept[holder]) for alias, holder in self.shared.items()
                 for name in (alias, holder)]
        return {name: other for name, other in pairs if name != other}

    def kept_names(self):
        """{holder: the one name that safetensors gets} of tied tensors: the
        holder's, unless it is no embedding and an alias is one."""
        ties = {}
        for alias, holder in self.shared.items():
            ties.setdefault(holder, [holder]).append(alias)
        return {holder: next(filter(is_embedding, names), holder)
                for holder, names in ties.items()}


def rebuilt(folder, tag):
    """Expected of a tag that has no file: rebuilt here and now."""
    expected = Expected.__new__(Expected)
    tensors, shared, expected.lp = truth.rebuild(str(folder / tag))
    expected.folder = folder
    expected.fill(tensors, shared)
    return expected


def is_embedding(name):
    modules = name.split(".")[:-1]
    return any("embed" in m or m in ("wte", "shared") for m in modules)


def bits(tensor):
    return tensor.contiguous().view(BITS[tensor.element_size()])


def differences(got, want):
    """Lines that say how two dicts of tensors differ; NaNs that were rounded
    need only be NaNs, all else is compared bit for bit."""
    lines = [f"missing {n}" for n in want.keys() - got.keys()]
    lines += [f"surplus {n}" for n in got.keys() - want.keys()]
    for name in sorted(want.keys() & got.keys()):
        a, b = got[name], want[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            lines.append(f"{name}: {tuple(a.shape)} {a.dtype}, "
                         f"not {tuple(b.shape)} {b.dtype}")
        elif not same_bits(a, b):
            lines.append(f"{name}: other bits")
    return lines


def same_bits(a, b):
    if a.is_floating_point() and a.element_size() == 2:
        nan = a.isnan()
        return torch.equal(nan, b.isnan()) and \
            torch.equal(bits(a)[~nan], bits(b)[~nan])
    return torch.equal(bits(a), bits(b))
