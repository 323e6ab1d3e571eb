# SPDX-License-Identifier: Apache-2.0
"""transformers loads what the tool writes, complete and tied."""

import shutil

import pytest
import torch
import transformers
from transformers import AutoConfig

from common import Expected, FIXTURES, consolidate, differences

MODELS = {
    "good-z2-bf16-w2-llama": transformers.LlamaForCausalLM,
    "good-z3-bf16-w2-gpt2": transformers.GPT2LMHeadModel,
    "good-z2-bf16-w2-t5": transformers.T5ForConditionalGeneration,
}


def convert(name, out, *options):
    """Into a folder that holds the model's config.json already."""
    out.mkdir()
    shutil.copy(FIXTURES / name / "config.json", out)
    return consolidate(FIXTURES / name, out, "--force", *options)


def logits(model):
    tokens = torch.arange(12).reshape(2, 6)
    labels = {"labels": tokens} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model.eval()(input_ids=tokens, **labels).logits


def load(name, out, dtype):
    model, info = MODELS[name].from_pretrained(
        out, dtype=dtype, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    return model


@pytest.mark.parametrize("options", [[], ["--max-shard-size", "8KB"]],
                         ids=["one", "sharded"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("name", MODELS)
def test_from_pretrained(name, dtype, options, tmp_path):
    out = convert(name, tmp_path / "out", "--dtype", dtype, *options)
    torch_dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    model = load(name, out, torch_dtype)
    expected = Expected(FIXTURES / name)
    want = expected.output(dtype)
    have = {k: v for k, v in model.state_dict().items() if k in want}
    assert not differences(have, want)
    for alias, holder in expected.shared.items():
        assert model.get_parameter(alias) is model.get_parameter(holder)
    assert torch.isfinite(logits(model)).all()


@pytest.mark.parametrize("options", [[], ["--max-shard-size", "8KB"]],
                         ids=["one", "sharded"])
@pytest.mark.parametrize("name", MODELS)
def test_from_pretrained_torch_save(name, options, tmp_path):
    out = convert(name, tmp_path / "out", "--format", "pt", *options)
    assert not list(out.glob("*.safetensors"))
    assert (out / "pytorch_model.bin.index.json").exists() == bool(options)
    model = load(name, out, torch.float32)
    expected = Expected(FIXTURES / name)
    want = expected.output()
    have = {k: v for k, v in model.state_dict().items() if k in want}
    assert not differences(have, want)
    for alias, holder in expected.shared.items():
        assert model.get_parameter(alias) is model.get_parameter(holder)
    assert torch.isfinite(logits(model)).all()


@pytest.mark.parametrize("name", MODELS)
def test_copied_config(name, tmp_path):
    """One command makes a folder that loads."""
    out = consolidate(FIXTURES / name, tmp_path / "out", "--copy-config")
    model = load(name, out, torch.float32)
    assert torch.isfinite(logits(model)).all()
    peer = load(name, convert(name, tmp_path / "by-hand"), torch.float32)
    assert torch.equal(logits(model), logits(peer))


@pytest.mark.parametrize("name", MODELS)
def test_same_logits_as_the_peer(name, tmp_path):
    """A model filled by hand from the expected tensors computes the same."""
    model = load(name, convert(name, tmp_path / "out"), torch.float32)
    expected = Expected(FIXTURES / name)
    peer = MODELS[name](AutoConfig.from_pretrained(FIXTURES / name))
    weights = dict(expected.params)
    weights.update({a: weights[h] for a, h in expected.shared.items()})
    missing, surplus = peer.load_state_dict(weights, strict=False)
    assert not missing and not surplus
    assert torch.equal(logits(model), logits(peer))
