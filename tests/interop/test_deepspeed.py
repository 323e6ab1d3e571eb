# SPDX-License-Identifier: Apache-2.0
"""The tool and DeepSpeed's own zero_to_fp32 on the same checkpoints.

Differences that are meant, and allowed for here: the script widens float
buffers, leaves out what stands only in `module` (frozen parameters of ZeRO 1,
zero-element ones), and gives a zero-element parameter that it takes for tied
the shape of the other.
"""

import fnmatch

import pytest
import torch
from deepspeed.utils.zero_to_fp32 import (
    convert_zero_checkpoint_to_fp32_state_dict,
    get_fp32_state_dict_from_zero_checkpoint)

import cases
import generate
from common import (Expected, consolidate, differences, fixtures, name_of,
                    read, read_sharded, rebuilt)

# Fixtures (patterns of names) on which the script fails, and why.
PEER_FAILS = {
    "good-container-legacy": "it maps files as zip archives",
    "good-*-zst*": "it does not look for compressed files",
    "good-stage0-*": "it wants param_shapes",
    "good-z0-*": "it wants param_shapes",
    "good-*-pp2*": "it wants the weights in the module",
    "good-*-tp2*": "it knows one model-parallel rank",
    "good-*-moe*": "it takes expert files for model states",
    "good-*-autoep": "it takes expert files for model states, or says so",
    "good-z1-bf16opt-w[23]*": "it wants zero_stage",
}

# It must not be run on these: it executes a call, wants data that is not there, or maps
# compressed bytes as numbers.
PEER_MUST_NOT_RUN = {"good-pickle-inert-system", "good-z3-frozen-not-saved",
                     "good-container-deflated"}


def peer_fails(folder):
    return any(fnmatch.fnmatch(folder.name, p) for p in PEER_FAILS)


FRESH = {
    "z1-fp32-w2": dict(world=2, ds=cases.ds(1, cases.FP32), groups=2, seed=71,
                       model=cases.SMALL, live="fp32"),
    "z2-bf16-w2-frozen-tied": dict(
        world=2, ds=cases.ds(2, cases.BF16), seed=72, freeze=["blocks.1"],
        model={**cases.SMALL, "n": 3, "tie": True}),
    "z3-bf16-w2-subgroups": dict(
        world=2, seed=73, model={**cases.SMALL, "v": 101, "d": 20},
        freeze=["blocks.0.down"],
        ds=cases.ds(3, cases.BF16, sub_group_size=1000)),
    "z3-fp32-w2-llama": dict(world=2, ds=cases.ds(3, cases.FP32), seed=74,
                             model=cases.llama(tie_word_embeddings=True)),
}


def compare(expected, got, peer):
    """The peer's dict has tied names twice and buffers widened."""
    ours = expected.output()
    empty = {n for n, t in ours.items() if not t.numel()}
    ties = set(expected.shared) | set(expected.shared.values())
    assert set(peer) <= set(ours) | ties
    assert set(ours) - set(peer) <= set(expected.frozen) | empty
    want = {n: (t.float() if t.is_floating_point() else t)
            for n, t in peer.items() if n in ours and n not in empty}
    have = {n: (t.float() if n in expected.buffers and t.is_floating_point()
                else t) for n, t in got.items() if n in want}
    assert not differences(have, want)
    for alias, holder in expected.shared.items():
        assert torch.equal(peer[alias], peer[holder])


@pytest.mark.parametrize(
    "folder", [f for f in fixtures() if not peer_fails(f)
               and f.name not in PEER_MUST_NOT_RUN], ids=name_of)
def test_fixture(folder, tmp_path):
    expected = Expected(folder)
    out = consolidate(folder, tmp_path / "out")
    peer = get_fp32_state_dict_from_zero_checkpoint(str(folder))
    compare(expected, read(out / "model.safetensors"), peer)


@pytest.mark.parametrize("folder", filter(peer_fails, fixtures()), ids=name_of)
def test_the_script_still_fails(folder):
    with pytest.raises(Exception):
        get_fp32_state_dict_from_zero_checkpoint(str(folder))


def test_the_lists_of_failures_are_no_longer_than_needed():
    names = {f.name for f in fixtures()}
    assert PEER_MUST_NOT_RUN <= names
    assert all(fnmatch.filter(names, pattern) for pattern in PEER_FAILS)


def run_peer(checkpoint, out):
    """What the script's main does, into .bin files: it cannot write tied
    weights as safetensors."""
    convert_zero_checkpoint_to_fp32_state_dict(str(checkpoint), str(out))
    return torch.load(out / "pytorch_model.bin", weights_only=True)


@pytest.mark.parametrize("name", FRESH)
def test_fresh_checkpoint(name, tmp_path):
    generate.make("fresh", FRESH[name], tmp_path)
    folder = tmp_path / "fresh"
    expected = Expected(folder)
    out = consolidate(folder, tmp_path / "out")
    got = read(out / "model.safetensors")
    assert not differences(got, expected.output())
    compare(expected, got, run_peer(folder, tmp_path / "peer"))
    again = consolidate(folder, tmp_path / "sharded", "--max-shard-size", "3KB")
    assert not differences(read_sharded(again)[0], got)
    assert not differences(got, rebuilt(folder, "global_step3").output())
