# SPDX-License-Identifier: Apache-2.0
"""The files: same bytes as the safetensors library writes, the same split as
huggingface_hub makes, and nothing that depends on threads or memory."""

import json

import pytest
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import safe_open
from safetensors.torch import save_file

from common import (Expected, consolidate, differences, fixtures,
                    has_one_module, name_of, read, read_sharded)


def nbytes(tensors):
    return sum(t.numel() * t.element_size() for t in tensors.values())


def limit_for(tensors):
    return max(64, nbytes(tensors) // 3)


def metadata(path):
    with safe_open(path, "pt") as f:
        return f.metadata()


def split_file(path):
    """(header as JSON, its length, the data) of a safetensors file."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8:8 + length]), length, raw[8 + length:]


def same_file(path, peer):
    """As the library writes it. The library has no order for the entries of
    __metadata__, so with more than one only the text of the header differs."""
    save_file(read(path), peer, metadata=metadata(path))
    if len(metadata(path)) == 1:
        return path.read_bytes() == peer.read_bytes()
    return split_file(path) == split_file(peer)


@pytest.mark.parametrize("folder", fixtures(), ids=name_of)
def test_one_file_is_the_librarys(folder, tmp_path):
    expected = Expected(folder)
    out = consolidate(folder, tmp_path / "out")
    assert same_file(out / "model.safetensors", tmp_path / "peer")
    assert metadata(out / "model.safetensors") == \
        {"format": "pt", **expected.dropped_names()}


@pytest.mark.parametrize("folder", fixtures(), ids=name_of)
def test_sharded(folder, tmp_path):
    expected = Expected(folder)
    want = expected.output()
    limit = limit_for(want)
    out = consolidate(folder, tmp_path / "out", "--max-shard-size", f"{limit}B")
    got, index = read_sharded(out)
    assert not differences(got, want)
    assert index["metadata"]["total_size"] == nbytes(want)
    files = sorted(set(index["weight_map"].values()))
    assert files == [f"model-{i:05}-of-{len(files):05}.safetensors"
                     for i in range(1, len(files) + 1)]
    assert len(files) > 1
    assert sorted(p.name for p in out.iterdir()) == \
        [*files, "model.safetensors.index.json"]
    for file in files:
        part = read(out / file)
        assert nbytes(part) <= limit or len(part) == 1
        assert same_file(out / file, tmp_path / "peer")


@pytest.mark.parametrize("folder", filter(has_one_module, fixtures()), ids=name_of)
def test_split_is_the_hubs(folder, tmp_path):
    """The hub's greedy split goes by the order of the dict: the module's."""
    expected = Expected(folder)
    want = expected.in_module_order(expected.output())
    limit = limit_for(want)
    out = consolidate(folder, tmp_path / "out", "--max-shard-size", limit)
    _, index = read_sharded(out)
    peer = split_torch_state_dict_into_shards(
        want, filename_pattern="model{suffix}.safetensors",
        max_shard_size=limit)
    assert peer.tensor_to_filename == index["weight_map"]
    assert peer.metadata["total_size"] == index["metadata"]["total_size"]


@pytest.mark.parametrize("folder", fixtures(), ids=name_of)
def test_threads_and_memory_do_not_show(folder, tmp_path):
    expected = Expected(folder)
    limit = limit_for(expected.output())
    outs = []
    for i, extra in enumerate((["--threads", "1"], ["--threads", "4"],
                               ["--threads", "3", "--max-memory", "64MiB"])):
        out = consolidate(folder, tmp_path / str(i), "--dtype", "bf16",
                          "--max-shard-size", limit, *extra)
        outs.append({p.name: p.read_bytes() for p in out.iterdir()})
    assert outs[0] == outs[1] == outs[2]


def test_one_shard_has_no_index(tmp_path):
    folder = fixtures()[0]
    out = consolidate(folder, tmp_path / "out", "--max-shard-size", "5GB")
    assert [p.name for p in out.iterdir()] == ["model.safetensors"]


def test_stale_files_go_and_foreign_files_stay(tmp_path):
    folder = fixtures()[0]
    expected = Expected(folder)
    out = tmp_path / "out"
    consolidate(folder, out, "--max-shard-size",
                limit_for(expected.output()))
    (out / "config.json").write_text("{}")
    consolidate(folder, out, "--force")
    assert sorted(p.name for p in out.iterdir()) == \
        ["config.json", "model.safetensors"]
    assert not differences(read(out / "model.safetensors"), expected.output())


def test_index_is_as_the_hub_writes_it(tmp_path):
    folder = fixtures()[0]
    limit = limit_for(Expected(folder).output())
    out = consolidate(folder, tmp_path / "out", "--max-shard-size", limit)
    text = (out / "model.safetensors.index.json").read_text()
    index = json.loads(text)
    assert set(index) == {"metadata", "weight_map"}
    assert isinstance(index["metadata"]["total_size"], int)
