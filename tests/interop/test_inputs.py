# SPDX-License-Identifier: Apache-2.0
"""Files that PyTorch, safetensors and transformers themselves wrote, compared with diff."""

import os

import safetensors.torch
import torch

from common import run


def tensors():
    torch.manual_seed(1)
    emb = torch.randn(7, 5)
    return {
        "emb.weight": emb,
        "head.weight": emb,
        "t": torch.randn(4, 6).t(),
        "half": torch.randn(300).to(torch.bfloat16),
        "counter": torch.tensor(2**53 + 1),
        "mask": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
    }


def apart(state):
    return {name: tensor.contiguous().clone() for name, tensor in state.items()}


def diff(a, b, *options):
    return run("diff", a, b, *options, check=False)


def test_containers_are_the_same(tmp_path):
    state = tensors()
    torch.save(state, tmp_path / "new.pt")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "nested.pt")
    torch.save({"model": state, "optimizer": {"state": {}}}, tmp_path / "model.bin")
    safetensors.torch.save_file(apart(state), tmp_path / "model.safetensors")
    for name in ("old.pt", "nested.pt", "model.bin", "model.safetensors"):
        done = diff(tmp_path / "new.pt", tmp_path / name)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.startswith("same: ")


def test_save_model_leaves_tied_names_out(tmp_path):
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.emb = torch.nn.Embedding(7, 5)
            self.head = torch.nn.Linear(5, 7, bias=False)
            self.head.weight = self.emb.weight

    model = Tied()
    torch.save(model.state_dict(), tmp_path / "a.pt")
    safetensors.torch.save_model(model, tmp_path / "b.safetensors")
    assert diff(tmp_path / "a.pt", tmp_path / "b.safetensors").returncode == 0
    assert diff(tmp_path / "b.safetensors", tmp_path / "a.pt").returncode == 0


def test_transformers_shards(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel
    model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=16,
                                       vocab_size=99, n_positions=16))
    model.save_pretrained(tmp_path / "st", max_shard_size="20KB")
    model.save_pretrained(tmp_path / "pt", max_shard_size="20KB",
                          safe_serialization=False)
    assert os.path.exists(tmp_path / "st" / "model.safetensors.index.json")
    assert os.path.exists(tmp_path / "pt" / "pytorch_model.bin.index.json")
    done = diff(tmp_path / "st", tmp_path / "pt")
    assert done.returncode == 0, done.stdout + done.stderr


def test_one_element(tmp_path):
    state = apart(tensors())
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    state["t"].view(torch.int32)[3, 2] += 1
    safetensors.torch.save_file(state, tmp_path / "b.safetensors")
    done = diff(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert done.returncode == 1
    assert "values   t: 1 of 24 elements" in done.stdout
    assert "1 ulp; first at 14: " in done.stdout
    assert "different: 6 equal, 1 different" in done.stdout


def test_distances_are_torchs(tmp_path):
    a, b = torch.randn(5000), torch.randn(5000)
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        x, y = a.to(dtype), b.to(dtype)
        torch.save({"x": x}, tmp_path / "a.pt")
        torch.save({"x": y}, tmp_path / "b.pt")
        largest = (x.double() - y.double()).abs().max().item()
        out = diff(tmp_path / "a.pt", tmp_path / "b.pt").stdout
        assert f"max abs {largest:.6g}," in out, out
        for rtol, atol in ((0.5, 0.5), (0.0, 1.0), (1e-3, 1e-3)):
            close = torch.isclose(x.double(), y.double(), rtol=rtol, atol=atol)
            out = diff(tmp_path / "a.pt", tmp_path / "b.pt", "--rtol", str(rtol),
                       "--atol", str(atol)).stdout
            assert f"{(~close).sum().item()} beyond the tolerance" in out, out
