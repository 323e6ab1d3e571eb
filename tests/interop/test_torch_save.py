# SPDX-License-Identifier: Apache-2.0
"""torch.save files: the bytes PyTorch writes for the same state dict, loaded by all its readers, tied
tensors one object, the split of huggingface_hub, and archives that other programs find sound."""

import collections
import io
import json
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
import torch
import torch.utils.serialization.config  # noqa: F401
from huggingface_hub import split_torch_state_dict_into_shards

from common import (HERE, Expected, consolidate, differences, fixtures,
                    has_one_module, name_of, read)

TESTS = HERE.parent
ID = ".data/serialization_id"


def load(path, **options):
    return torch.load(path, weights_only=True, **options)


def with_ties(expected, dtype="fp32"):
    """{name: tensor} with all names, in module order, tied ones the same object."""
    out = dict(expected.buffers)
    for name, tensor in [*expected.params.items(), *expected.frozen.items()]:
        out[name] = expected.convert(name, tensor, dtype)
    for alias, holder in expected.shared.items():
        out[alias] = out[holder]
    return {name: out[name] for name in expected.lp if name in out}


def convert(folder, out, *options):
    return consolidate(folder, out, "--format", "pt", *options)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16", "keep"])
@pytest.mark.parametrize("folder", fixtures(), ids=name_of)
def test_values_order_and_ties(folder, dtype, tmp_path):
    expected = Expected(folder)
    want = with_ties(expected, dtype)
    path = convert(folder, tmp_path / "out", "--dtype", dtype) / "pytorch_model.bin"
    for got in load(path), load(path, mmap=True):
        assert type(got) is collections.OrderedDict
        assert list(got) == list(want) or not has_one_module(folder)
        assert not differences(got, want)
        for alias, holder in expected.shared.items():
            assert got[alias] is got[holder]
        storages = {t.untyped_storage().data_ptr(): n for n, t in got.items() if t.numel()}
        assert len(storages) == len({id(t) for t in got.values() if t.numel()})
        assert all(t.is_contiguous() and not t.requires_grad for t in got.values())


@pytest.mark.parametrize("folder", fixtures(), ids=name_of)
def test_bytes_are_pytorchs(folder, tmp_path):
    """All but the identifier, which PyTorch makes of the same things in its own way."""
    ours = convert(folder, tmp_path / "out") / "pytorch_model.bin"
    peer = tmp_path / "pytorch_model.bin"
    torch.save(load(ours), peer)
    assert blank_id(ours) == blank_id(peer)


def blank_id(path):
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{path.stem}/{ID}")
    begin = raw.index(info.orig_filename.encode(), info.header_offset)
    begin = info.header_offset + 30 + len(info.orig_filename) \
        + int.from_bytes(raw[info.header_offset + 28:info.header_offset + 30], "little")
    assert re.fullmatch(rb"\d{40}", raw[begin:begin + 40])
    directory = raw.rindex(info.orig_filename.encode()) - 46
    for at, size in (begin, 40), (begin + 44, 4), (directory + 16, 4):
        raw[at:at + size] = bytes(size)
    return bytes(raw)


@pytest.mark.parametrize("folder", fixtures(), ids=name_of)
def test_archive_is_sound(folder, tmp_path):
    path = convert(folder, tmp_path / "out") / "pytorch_model.bin"
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert all(i.compress_type == zipfile.ZIP_STORED for i in archive.infolist())
    reader = torch._C.PyTorchFileReader(str(path))
    for record in reader.get_all_records():
        assert reader.get_record_offset(record) % 64 == 0
    if shutil.which("unzip"):
        done = subprocess.run(["unzip", "-tqq", path], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_offsets_that_pytorch_computes(tmp_path, monkeypatch):
    """Its reader may reckon from sizes alone where a storage lies; the debug switch compares."""
    monkeypatch.setenv("TORCH_SERIALIZATION_DEBUG", "1")
    for folder in fixtures():
        path = convert(folder, tmp_path / folder.name) / "pytorch_model.bin"
        with torch.utils.serialization.config.patch("load.calculate_storage_offsets", True):
            got = load(path, mmap=True)
        assert not differences(got, load(path))


def read_sharded(out):
    index = json.loads((out / "pytorch_model.bin.index.json").read_text())
    tensors = {}
    for file in sorted(set(index["weight_map"].values())):
        part = load(out / file)
        assert {n for n, f in index["weight_map"].items() if f == file} == set(part)
        tensors.update(part)
    return tensors, index


@pytest.mark.parametrize("folder", filter(has_one_module, fixtures()), ids=name_of)
def test_split_is_the_hubs(folder, tmp_path):
    want = with_ties(Expected(folder))
    sizes = {id(t): t.numel() * t.element_size() for t in want.values()}
    limit = max(64, sum(sizes.values()) // 3)
    out = convert(folder, tmp_path / "out", "--max-shard-size", limit)
    got, index = read_sharded(out)
    assert not differences(got, want)
    peer = split_torch_state_dict_into_shards(
        want, filename_pattern="pytorch_model{suffix}.bin", max_shard_size=limit)
    assert peer.tensor_to_filename == index["weight_map"]
    assert peer.metadata["total_size"] == index["metadata"]["total_size"]


@pytest.mark.parametrize("folder", fixtures(), ids=name_of)
def test_threads_do_not_show(folder, tmp_path):
    outs = [convert(folder, tmp_path / threads, "--threads", threads) / "pytorch_model.bin" for threads in "14"]
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_untied_and_states(tmp_path):
    folder = next(f for f in fixtures() if Expected(f).shared)
    want = with_ties(Expected(folder))
    got = load(convert(folder, tmp_path / "a", "--untie") / "pytorch_model.bin")
    assert not differences(got, want)
    assert len({t.data_ptr() for t in got.values() if t.numel()}) == sum(1 for t in got.values() if t.numel())
    both = [consolidate(folder, tmp_path / n, "--state", "all", "--untie") for n in ("s.pt", "s.safetensors")]
    assert not differences(load(both[0]), read(both[1]))


def test_identifier_follows_the_contents(tmp_path):
    """The same names and sizes, other values: another identifier."""
    folder = fixtures("good-z2-bf16-w2-2groups-tiny")[0]
    ids = set()
    for tag in sorted(p.name for p in folder.iterdir() if p.is_dir()):
        path = convert(folder, tmp_path / tag, "--tag", tag) / "pytorch_model.bin"
        ids.add(zipfile.ZipFile(path).read(f"pytorch_model/{ID}"))
    assert len(ids) == 2


def test_splits_in_the_unit_test_are_the_hubs():
    made = subprocess.run([sys.executable, str(TESTS / "hub_splits.py")], capture_output=True, check=True)
    assert made.stdout == (TESTS / "hub_splits.inc").read_bytes()


def test_pickle_in_the_unit_test_is_pytorchs(tmp_path):
    """The bytes that tests/test_torch_save.c compares with."""
    state = collections.OrderedDict(w=torch.zeros(2, 3))
    state.update({"n.b": torch.tensor(0), "e": torch.zeros(0, 4), "tied": state["w"],
                  "f8": torch.zeros(3).to(torch.float8_e8m0fnu), "u16": torch.zeros(3, dtype=torch.uint16)})
    file = io.BytesIO()
    torch.save(state, file)
    source = (TESTS / "test_torch_save.c").read_text()
    literal = source.split("torch_pickle[] =", 1)[1].split(";\n", 1)[0]
    (tmp_path / "p.c").write_text(f"#include <stdio.h>\nstatic const char p[] = {literal};\n"
                                  "int main(void) { return fwrite(p, 1, sizeof p - 1, stdout) != sizeof p - 1; }\n")
    subprocess.run(["cc", "-o", tmp_path / "p", tmp_path / "p.c"], check=True)
    ours = subprocess.run([tmp_path / "p"], capture_output=True, check=True).stdout
    assert ours == zipfile.ZipFile(file).read("archive/data.pkl")
