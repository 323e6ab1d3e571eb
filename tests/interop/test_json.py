# SPDX-License-Identifier: Apache-2.0
"""What --json prints, against the schemas in docs/schema."""

import json

import jsonschema
import pytest

from common import FIXTURES, consolidate, fixtures, name_of, run

SCHEMAS = FIXTURES.parent / "docs" / "schema"
TINY = FIXTURES / "good-z2-bf16-w2-2groups-tiny"


def unique(pairs):
    """JSON objects have no key twice."""
    names = [name for name, _ in pairs]
    assert len(names) == len(set(names)), names
    return dict(pairs)


def closed(schema):
    """The schema for what is printed today: keys that it does not know are errors."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        result.setdefault("additionalProperties", False)
    return result


def validate(told, name):
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(closed(schema)).validate(told)


def check(*args, codes=(0,)):
    done = run(*args, "--json", check=False)
    assert done.returncode in codes, done.stderr
    assert done.stdout.count("\n") == 1
    told = json.loads(done.stdout, object_pairs_hook=unique)
    validate(told, args[0])
    assert told["command"] == args[0]
    return told


ALL = fixtures() + fixtures("bad-*") + fixtures("unsupported-*")


@pytest.mark.parametrize("folder", ALL, ids=name_of)
def test_inspect(folder):
    told = check("inspect", folder, "--tensors", codes=(0, 3))
    assert ("error" in told) or told["kind"] == "zero"


@pytest.mark.parametrize("folder", ALL, ids=name_of)
def test_consolidate(folder, tmp_path):
    check("consolidate", folder, tmp_path / "out", "--dry-run", codes=(0, 3))


def test_diff(tmp_path):
    consolidate(TINY, tmp_path / "out", "--dtype", "bf16")
    told = check("diff", TINY, tmp_path / "out", "--verbose", codes=(1,))
    assert told["rounded"] == 9 and len(told["tensors"]) == 11
    assert check("diff", TINY, TINY)["same"] is True
    assert check("diff", TINY, TINY / "absent", codes=(3,))["error"]["status"] == "IO"


def test_inspect_of_weights(tmp_path):
    consolidate(TINY, tmp_path / "out")
    told = check("inspect", tmp_path / "out", "--tensors")
    assert told["kind"] == "folder" and len(told["tensors"]) == 11


@pytest.mark.parametrize("folder", fixtures(), ids=name_of)
def test_map(folder):
    told = check("map", folder)
    ids = {p["id"] for p in told["partitions"]}
    assert all(f["partition"] in ids for t in told["tensors"]
               for f in t["fragments"])
    for tensor in told["tensors"]:
        assert sum(f["elements"] for f in tensor["fragments"]) \
            == tensor["elements"]


def test_get_and_set(tmp_path):
    told = check("get", TINY, "emb.weight", "--state", "exp_avg")
    assert told["shape"] == [9, 4] and told["min"] <= told["mean"] <= told["max"]
    assert "min" not in check("get", TINY, "emb.weight", "-o",
                              tmp_path / "w.npy")
    told = check("set", TINY, "emb.weight", tmp_path / "w.npy", "--output",
                 tmp_path / "new")
    assert told["lp_updated"] and told["files_changed"] == 2
    assert check("get", TINY, "nobody", codes=(3,))["error"]["status"] == "ARG"
    assert check("set", TINY, "odd", tmp_path / "w.npy", "--output",
                 tmp_path / "other", codes=(3,))["error"]["status"] == "MISMATCH"


@pytest.mark.parametrize("folder", ALL, ids=name_of)
def test_verify(folder):
    told = check("verify", folder, "--data", codes=(0, 1, 3))
    assert ("error" in told) or told["findings"] is not None


def test_verify_of_weights(tmp_path):
    consolidate(TINY, tmp_path / "out", "--max-shard-size", "200")
    assert check("verify", tmp_path / "out", "--data")["kind"] == "folder"
    (tmp_path / "out" / "model-00001-of-00004.safetensors").unlink()
    told = check("verify", tmp_path / "out", codes=(1,))
    assert told["findings"][0]["code"] == "UZV061"
    for folder in fixtures("uc-*"):
        assert check("verify", folder, "--data")["kind"] == "universal"


@pytest.mark.parametrize("stage", [1, 3])
def test_reshard(stage, tmp_path):
    told = check("reshard", TINY, tmp_path / "new", "--dp", 3, "--stage", stage)
    assert (told["stage"], told["world_size"], told["old_world_size"]) == (stage, 3, 2)
    assert {f["name"] for f in told["files"]} == {
        str(p.relative_to(tmp_path / "new")) for p in (tmp_path / "new").rglob("*.pt")}
    error = check("reshard", TINY, tmp_path / "new", "--dp", 3, codes=(3,))["error"]
    assert error["status"] == "ARG"


UNIVERSAL = ["good-z1-bf16-tp2-tied", "good-z2-bf16-w2-llama", "good-z3-fp16-w4-subgroups",
             "good-z0-bf16-w1"]


@pytest.mark.parametrize("name", UNIVERSAL)
def test_universal(name, tmp_path):
    told = check("universal", FIXTURES / name, tmp_path / "uc", codes=(0, 3))
    assert ("error" in told) == name.startswith("good-z0")  # loads on any world as it is
    if "error" not in told:
        assert told["zero_stage"] == int(name[len("good-z")])
        assert check("universal", FIXTURES / name, tmp_path / "other", "--dry-run")["dry_run"]
        assert check("verify", tmp_path / "uc", "--data")["kind"] == "universal"
        assert check("inspect", tmp_path / "uc", "--tensors")["kind"] == "universal"


@pytest.mark.parametrize("name", ["good-z3-bf16-w2-frozen-tied", "good-z1-bf16-tp2-tied",
                                  "good-z2-bf16-w2-masters-bf16"])
def test_manifest(name, tmp_path):
    folder, file = FIXTURES / name, tmp_path / "m.json"
    told = check("verify", folder, "--manifest", "write", file)["manifest"]
    manifest = json.loads(file.read_text(), object_pairs_hook=unique)
    validate(manifest, "manifest")
    assert told == {"mode": "write", "file": str(file), "tensors": len(manifest["tensors"]),
                    "files": len(manifest["files"])}
    assert manifest["kind"] == "zero" and manifest["files"] and manifest["tensors"]
    assert check("verify", folder, "--manifest", "check", file)["manifest"] \
        == {**told, "mode": "check"}
    consolidate(folder, tmp_path / "out")
    told = check("verify", tmp_path / "out", "--manifest", "check", file)
    assert told["manifest"]["tensors"] > 0 and "UZV078" in {f["code"] for f in told["findings"]}
