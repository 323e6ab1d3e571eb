# SPDX-License-Identifier: Apache-2.0
"""Runs commands in turn, each in a fresh folder, and tells the spread of what they took."""

import dataclasses
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time
from typing import Callable


class Failed(Exception):
    """A command failed, or its output is not what it must be: nothing was measured."""


class LeftOut(Exception):
    """Something that a row needs is not here."""


@dataclasses.dataclass
class Contender:
    """A command, where it writes, and what its output is held against.

    `verify` looks at all of the output of the first run, which is not counted;
    `digest` says of every run whether it gave the same again.
    """
    name: str
    command: Callable[[pathlib.Path], list]
    verify: Callable[[pathlib.Path], None] = lambda out: None
    prepare: Callable[[], None] = lambda: None
    env: dict = dataclasses.field(default_factory=dict)


def fresh(path):
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


PEAK_RSS = None  # the small program that starts commands, since a child's peak begins with
#                  the memory of who forked it; set by bench.py


def run(command, env=None, realtime=False):
    """Seconds, CPU seconds and peak RSS (MiB) of one command."""
    took = tempfile.NamedTemporaryFile(prefix="took-")
    command = [PEAK_RSS, took.name, *command]
    if realtime:
        command = ["chrt", "-f", "1", *command]
    begin = time.monotonic()
    with open(os.devnull, "wb") as null, subprocess.Popen(
            [str(word) for word in command], stdout=null, stderr=subprocess.PIPE,
            env=dict(os.environ, **(env or {}))) as process:
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
    if status != 0:
        raise Failed(f"{' '.join(map(str, command))}: status {process.returncode}: "
                     f"{errors.decode(errors='replace')[-2000:]}")
    with took:
        kib = int(took.read().split()[2])
    return {"seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime, "rss_mib": kib / 1024}


def sampled_digest(folder):
    """Sizes of all files of a folder, and blocks spread over each."""
    import hashlib
    digest = hashlib.blake2b()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)} {size}\n".encode())
        with open(path, "rb") as file:
            for i in range(64):
                file.seek(size * i // 64)
                digest.update(file.read(16384))
    return digest.hexdigest()


def alternate(contenders, work, pairs, realtime=False, log=lambda text: None):
    """name -> list of measurements, all contenders in turn, `pairs` times, each turn in the order
    that the one before did not have: what a run leaves to the next is shared out evenly."""
    taken = {c.name: [] for c in contenders}
    digests = {}
    for turn in range(pairs + 1):
        for contender in contenders if turn % 2 else contenders[::-1]:
            out = fresh(work / "out")
            contender.prepare()
            os.sync()
            took = run(contender.command(out), contender.env, realtime)
            if turn == 0:
                contender.verify(out)
                digests[contender.name] = sampled_digest(out)
                log(f"  {contender.name}: output checked")
                continue
            if sampled_digest(out) != digests[contender.name]:
                raise Failed(f"{contender.name}: another output than in its first run")
            taken[contender.name].append(took)
    shutil.rmtree(work / "out", ignore_errors=True)
    return taken


def spread(values):
    """Median, quartiles and extremes."""
    values = sorted(values)
    if len(values) == 1:
        q1 = q3 = values[0]
    else:
        q1, _, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": statistics.median(values), "q1": q1, "q3": q3, "min": values[0],
            "max": values[-1], "n": len(values)}


def ratios(numerator, denominator, key="seconds"):
    """Spread of the ratios of pairs."""
    return spread([a[key] / b[key] for a, b in zip(numerator, denominator)])
