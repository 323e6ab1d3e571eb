# SPDX-License-Identifier: Apache-2.0
"""Value graphs that are written back load in PyTorch as the same graph: contents, identity, cycles."""

import argparse
import collections
import dataclasses
import datetime
import decimal
import enum
import os
import pathlib
import random
import struct
import subprocess
import zipfile

import numpy
import pytest
import torch

from common import FIXTURES

TOOL = pathlib.Path(os.environ.get("UNZERO_TESTS") or pathlib.Path(os.environ["UNZERO"]).parent / "tests") \
    / "rewrite_pickle"

Point = collections.namedtuple("Point", "x y")


class Plain:
    pass


class Slots:
    __slots__ = ("a", "b")


class Numbers(list):
    pass


class Table(dict):
    pass


class Reduced:
    """Made by a call with arguments, filled with items, pairs and state afterwards."""

    def __init__(self, name):
        self.name, self.items, self.pairs = name, [], {}

    def append(self, item):
        self.items.append(item)

    def extend(self, items):
        self.items.extend(items)

    def __setitem__(self, key, value):
        self.pairs[key] = value

    def __reduce__(self):
        return Reduced, (self.name,), {"note": 1}, iter([1, [2]]), iter([("k", (self,))])


class Keywords:
    def __new__(cls, *, size=0):
        new = super().__new__(cls)
        new.size = size
        return new

    def __getnewargs_ex__(self):
        return (), {"size": self.size}


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Record:
    name: str
    other: object = None


def nan(bits):
    return struct.unpack("<d", struct.pack("<Q", bits))[0]


def nasty():
    shared = [1, 2]
    cycle = {"self": None}
    cycle["self"] = cycle
    knot = ([],)
    knot[0].append(knot)
    wide = (1, 2, 3, 4, [])
    wide[4].append(wide)
    plain, slots, numbers, table = Plain(), Slots(), Numbers([1, 2]), Table(a=1)
    plain.me, plain.shared = plain, shared
    slots.a, slots.b = shared, slots
    numbers.table, table.numbers = table, numbers
    storage = torch.arange(12.0)
    base = numpy.arange(6).reshape(2, 3)
    default = collections.defaultdict(list, k=[shared])
    ordered = collections.OrderedDict(a=1, b=shared)
    ordered.note = "attribute"
    return {
        "shared": [shared, shared, (shared,), {"a": shared}], "cycle": cycle, "knot": knot, "wide": wide,
        "floats": [nan(0x7ff8000000000001), nan(0xfff8000000000000), float("inf"), -float("inf"), -0.0, 5e-324, 0.1],
        "ints": [0, 255, 256, 65535, 65536, -1, 2**31 - 1, -2**31, 2**31, 2**63 - 1, -2**63, 2**63, -2**64, 10**700],
        "bytes": [b"", b"\x00\xff", bytes(300), bytearray(b"ab"), bytearray()],
        "text": ["", "ä", "\u2028", "\U0001f600", "\ud800", "nul\0", "x" * 70000],
        "sets": [set(), {1, "a"}, frozenset(), frozenset({(1, 2)}), {frozenset({1})}],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)], "point": Point(1, shared), "none": None, "bools": (True, False),
        "plain": plain, "slots": slots, "numbers": numbers, "table": table, "reduced": Reduced("r"), "keywords": Keywords(size=3),
        "enum": [Color.RED, Color.RED], "record": Record("r", shared), "class": [Plain, Plain, dict, len, torch.nn.Linear],
        "default": default, "ordered": ordered, "namespace": argparse.Namespace(lr=0.1, betas=(0.9, 0.999)),
        "date": datetime.datetime(2024, 2, 29, 1, 2, 3), "decimal": decimal.Decimal("1.10"), "complex": 1 - 2j, "range": range(3),
        "slice": slice(1, None, 2),
        "numpy": [base, base, base.T, numpy.float32(1.5), numpy.array(["a", "bc"]), numpy.int64(7)],
        "rng": [random.Random(1).getstate(), numpy.random.RandomState(1).get_state(), torch.random.get_rng_state()],
        "tensors": [storage, storage, storage[3:7], storage.view(3, 4).t(), torch.nn.Parameter(torch.ones(2)),
                    torch.zeros(0, 3), torch.tensor(1), torch.ones(2).to(torch.float8_e4m3fn)],
        "torch": [torch.Size([1, 2]), torch.float16, torch.device("cpu")],
        "module": torch.nn.Linear(2, 2), "optimizer": torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))]).state_dict(),
        "many": list(range(2001)), "pairs": {i: [i] for i in range(1001)}, "list": [[[]] * 3],
    }


class Graph:
    """Walks two loaded values side by side; each object must meet the same partner whenever it turns up."""

    def __init__(self):
        self.partner, self.back, self.keep = {}, {}, []

    def same(self, a, b, path="root"):
        todo = [(a, b, path)]
        while todo:
            a, b, path = todo.pop()
            assert type(a) is type(b), path
            if isinstance(a, float):
                assert struct.pack("<d", a) == struct.pack("<d", b), path
                continue
            if a is None or isinstance(a, (bool, int, str, bytes, type)) or callable(a) and a is b:
                assert a == b, path
                continue
            if id(a) in self.partner or id(b) in self.back:
                assert self.partner.get(id(a)) == id(b) and self.back.get(id(b)) == id(a), path
                continue
            if a != () and a != frozenset() if isinstance(a, (tuple, frozenset)) else True:
                self.partner[id(a)], self.back[id(b)] = id(b), id(a)
            self.keep += [a, b]
            todo += self.parts(a, b, path)

    def parts(self, a, b, path):
        if isinstance(a, torch.Tensor):
            assert (a.dtype, a.shape, a.stride(), a.storage_offset(), a.requires_grad) == \
                (b.dtype, b.shape, b.stride(), b.storage_offset(), b.requires_grad), path
            raw = [bytes(t.untyped_storage()) for t in (a, b)]
            assert raw[0] == raw[1], path
            pointers = [t.untyped_storage().data_ptr() for t in (a, b)]
            yield pointers[0] and Pointer.of(a), pointers[1] and Pointer.of(b), path + ".storage"
            return
        if isinstance(a, numpy.ndarray):
            assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes(), path
        elif isinstance(a, (set, frozenset)):
            assert a == b, path
        elif isinstance(a, (list, tuple)):
            assert len(a) == len(b), path
            for i, pair in enumerate(zip(a, b)):
                yield (*pair, f"{path}[{i}]")
        elif isinstance(a, dict):
            assert list(a) == list(b), path
            for key in a:
                yield a[key], b[key], f"{path}[{key!r}]"
            if isinstance(a, collections.defaultdict):
                yield a.default_factory, b.default_factory, path
        elif isinstance(a, (bytearray, complex, range, slice, datetime.datetime, decimal.Decimal, numpy.generic,
                            torch.dtype, torch.device, enum.Enum)):
            assert a == b, path
        if hasattr(a, "__dict__") and not isinstance(a, enum.Enum):
            yield vars(a), vars(b), path + ".__dict__"
        for name in getattr(type(a), "__slots__", ()) if isinstance(a, Slots) else ():
            yield getattr(a, name), getattr(b, name), f"{path}.{name}"


class Pointer:
    """A storage as an object with an identity: one for each address."""
    known = {}

    @classmethod
    def of(cls, tensor):
        return cls.known.setdefault(tensor.untyped_storage().data_ptr(), [])


def rewritten(path, out):
    """The same archive with the pickle that our writer makes of it."""
    pickle = subprocess.run([TOOL, path], capture_output=True, check=True).stdout
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename.endswith("/data.pkl"):
                original, data = data, pickle
            new.writestr(info.filename, data)
    return original, pickle


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_nasty_state(protocol, tmp_path):
    source, out = tmp_path / "nasty.pt", tmp_path / "again.pt"
    torch.save(nasty(), source, pickle_protocol=protocol)
    original, pickle = rewritten(source, out)
    a, b = (torch.load(path, weights_only=False) for path in (source, out))
    Graph().same(a, b)
    assert b["knot"][0][0] is b["knot"] and b["plain"].me is b["plain"] and b["cycle"]["self"] is b["cycle"]


def test_the_comparison_sees_sharing():
    """The test above would be worth nothing if copies passed."""
    one = [1]
    for a, b in (([one, one], [[1], [1]]), ([[1], [1]], [one, one]), (float("nan"), nan(0x7ff8000000000001)),
                 ([torch.ones(1)] * 2, [torch.ones(1), torch.ones(1)])):
        with pytest.raises(AssertionError):
            Graph().same(a, b)


@pytest.mark.parametrize("name", ["good-z2-bf16-w2-llama", "good-z3-bf16-w2-frozen-tied", "good-z2-fp16-w3-roundrobin"])
def test_fixtures_load_again(name, tmp_path):
    for path in sorted((FIXTURES / name).glob("*/*.pt")):
        rewritten(path, tmp_path / path.name)
        Graph().same(*(torch.load(p, weights_only=False) for p in (path, tmp_path / path.name)))
