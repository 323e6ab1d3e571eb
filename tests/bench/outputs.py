# SPDX-License-Identifier: Apache-2.0
"""Holds outputs against what they must be: whole files, tensor by tensor, rounded values."""

import array
import collections
import hashlib
import json
import random
import sys
import zipfile

from measure import Failed

BLOCK = 1 << 24


class Tensors:
    """The tensors of a safetensors file: name -> (dtype, shape, first byte, bytes)."""

    def __init__(self, path):
        self.path = path
        self.file = open(path, "rb")
        n = int.from_bytes(self.file.read(8), "little")
        header = json.loads(self.file.read(n))
        self.table = {name: (t["dtype"], tuple(t["shape"]), 8 + n + t["data_offsets"][0],
                             t["data_offsets"][1] - t["data_offsets"][0])
                      for name, t in header.items() if name != "__metadata__"}

    def read(self, name, first, nbytes):
        self.file.seek(self.table[name][2] + first)
        return self.file.read(nbytes)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()


def same_tensors(expected, got):
    """Raises Failed unless both files hold the same tensors, whatever their order."""
    with Tensors(expected) as a, Tensors(got) as b:
        if {k: v[:2] for k, v in a.table.items()} != {k: v[:2] for k, v in b.table.items()}:
            raise Failed(f"{got}: other tensors than {expected}")
        for name, (_, _, _, nbytes) in a.table.items():
            for first in range(0, nbytes, BLOCK):
                n = min(BLOCK, nbytes - first)
                if a.read(name, first, n) != b.read(name, first, n):
                    raise Failed(f"{got}: {name} differs from {expected}")


def rounded_to_bf16(bits):
    """To nearest, ties to even; for finite values."""
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16


def rounded_tensors(expected, got, samples=200_000):
    """Raises Failed unless sampled elements of `got` are those of `expected`, as bf16."""
    rng = random.Random(1)
    with Tensors(expected) as a, Tensors(got) as b:
        if {k: v[1] for k, v in a.table.items()} != {k: v[1] for k, v in b.table.items()}:
            raise Failed(f"{got}: other tensors than {expected}")
        each = max(1, samples // len(a.table))
        for name, (_, _, _, nbytes) in a.table.items():
            n = min(each, nbytes // 4)
            first = rng.randrange(nbytes // 4 - n + 1)
            want = array.array("I", a.read(name, 4 * first, 4 * n))
            have = array.array("H", b.read(name, 2 * first, 2 * n))
            if sys.byteorder != "little":
                want.byteswap()
                have.byteswap()
            if [rounded_to_bf16(x) for x in want] != list(have):
                raise Failed(f"{got}: {name} is not {expected}'s, rounded")


def digest_of(file, nbytes):
    digest = hashlib.blake2b()
    while nbytes > 0:
        block = file.read(min(BLOCK, nbytes))
        digest.update(block)
        nbytes -= len(block)
    return digest.digest()


def storages(path):
    """How often each content of a storage occurs in a torch.save file.

    The zip's own CRCs are checked by reading.
    """
    found = collections.Counter()
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if "/data/" in entry.filename:
                with archive.open(entry) as file:
                    found[digest_of(file, entry.file_size)] += 1
    return found


def same_storages(expected, got):
    """Raises Failed unless a torch.save file holds the expected tensors' bytes as storages."""
    with Tensors(expected) as tensors:
        want = collections.Counter()
        for _, (_, _, first, nbytes) in tensors.table.items():
            tensors.file.seek(first)
            want[digest_of(tensors.file, nbytes)] += 1
    if want != storages(got):
        raise Failed(f"{got}: other storages than {expected}")


def same_file(expected, got):
    with open(expected, "rb") as a, open(got, "rb") as b:
        while True:
            x, y = a.read(BLOCK), b.read(BLOCK)
            if x != y:
                raise Failed(f"{got} differs from {expected}")
            if not x:
                return
