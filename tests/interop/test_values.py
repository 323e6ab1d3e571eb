# SPDX-License-Identifier: Apache-2.0
"""Every tensor of every good fixture, bit for bit, in every output dtype."""

import pytest

from common import (Expected, consolidate, differences, fixtures, name_of,
                    read, rebuilt, run, FIXTURES)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16", "keep"])
@pytest.mark.parametrize("folder", fixtures(), ids=name_of)
def test_dtype(folder, dtype, tmp_path):
    expected = Expected(folder)
    out = consolidate(folder, tmp_path / "out", "--dtype", dtype)
    assert sorted(p.name for p in out.iterdir()) == ["model.safetensors"]
    assert not differences(read(out / "model.safetensors"),
                           expected.output(dtype))


@pytest.mark.parametrize("folder", fixtures(), ids=name_of)
def test_exclude_frozen(folder, tmp_path):
    expected = Expected(folder)
    out = consolidate(folder, tmp_path / "out", "--exclude-frozen")
    want = expected.output(frozen=False)
    # A zero-element parameter is no frozen one, whatever file it stands in.
    want.update({name: tensor for name, tensor in expected.output().items()
                 if not tensor.numel()})
    assert not differences(read(out / "model.safetensors"), want)


def test_out_is_a_file(tmp_path):
    folder = FIXTURES / "good-z2-bf16-w2-2groups-tiny"
    consolidate(folder, tmp_path / "weights.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["weights.safetensors"]
    assert not differences(read(tmp_path / "weights.safetensors"),
                           Expected(folder).output())


def test_tag_and_tag_folder(tmp_path):
    folder = FIXTURES / "good-z2-bf16-w2-2groups-tiny"
    want = rebuilt(folder, "global_step3").output()
    by_tag = consolidate(folder, tmp_path / "a", "--tag", "global_step3")
    by_folder = consolidate(folder / "global_step3", tmp_path / "b")
    assert not differences(read(by_tag / "model.safetensors"), want)
    assert not differences(read(by_folder / "model.safetensors"), want)


def test_dry_run_writes_nothing(tmp_path):
    folder = FIXTURES / "good-z3-bf16-w2-tiny"
    run("consolidate", folder, tmp_path / "out", "--dry-run")
    assert not list(tmp_path.iterdir())
