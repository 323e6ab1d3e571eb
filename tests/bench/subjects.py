# SPDX-License-Identifier: Apache-2.0
"""The checkpoints that are measured: made once by our own writer or by DeepSpeed, then kept."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

from measure import Failed

HERE = pathlib.Path(__file__).resolve().parent

# Llamas by size: (tensors, width, vocabulary). "large" has 427 M parameters, 1.7 GB as fp32.
# Tensors, width, vocabulary; "wide" has rows as long as those of a model of 7 billion parameters.
MODELS = {"large": (245, 1024, 32000), "small": (200, 512, 16384), "wide": (9, 4096, 16384)}


class Subjects:
    def __init__(self, tools, work, model, python, real_params):
        self.tools, self.work, self.model = tools, work, model
        self.python, self.real_params = python, real_params

    def _make(self, name, command, env=None):
        """A folder that is complete if its stamp is there, so that a killed run can go on."""
        folder, stamp = self.work / name, self.work / f"{name}.made"
        wanted = json.dumps([str(word) for word in command[1:]])
        if stamp.exists() and stamp.read_text() == wanted:
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        done = subprocess.run([*map(str, command), str(folder)], env=env, capture_output=True)
        if done.returncode != 0:
            raise Failed(f"{name} cannot be made: {done.stderr.decode(errors='replace')[-2000:]}")
        os.sync()
        stamp.write_text(wanted)
        return folder

    def made(self, name, stage=2, ranks=2, tp=1, rows_only=False, model=None):
        """Our own: random masters, everything else holes. All of one model hold the same."""
        model = model or self.model
        tensors, width, vocabulary = MODELS[model]
        command = [self.tools / "make_sparse", "--stage", stage, "--ranks", ranks, "--tensors",
                   tensors, "--width", width, "--vocabulary", vocabulary, "--tp", tp, "--random"]
        if rows_only:
            command.append("--rows-only")
        return self._make(f"{model}-{name}", command)

    def sparse(self, stage, ranks, tensors, gib):
        """Nothing but metadata: all data are holes."""
        return self._make(f"sparse-z{stage}-{ranks}x{tensors}-{gib}",
                          [self.tools / "make_sparse", "--stage", stage, "--ranks", ranks,
                           "--tensors", tensors, "--gib", gib])

    def expected(self, model=None):
        """The weights that all of made() must give, as safetensors."""
        model = model or self.model
        tensors, width, vocabulary = MODELS[model]
        folder = self._make(f"{model}-expected",
                            [self.tools / "make_sparse", "--ranks", 1, "--tensors", tensors,
                             "--width", width, "--vocabulary", vocabulary, "--expected-only"])
        return folder / "model.safetensors"

    def has_peer(self):
        return self.python is not None

    def real(self, stage):
        """DeepSpeed's own, 2 ranks, bf16 and Adam: 14 bytes a parameter."""
        env = dict(os.environ, DS_ACCELERATOR="cpu", OMP_NUM_THREADS="1",
                   TORCH_EXTENSIONS_DIR=str(self.work / "extensions"))
        script = self.work / f"make-z{stage}"  # `_make` puts the folder last
        script.write_text(f'#!/bin/sh\nexec "{self.python}" "{HERE}/make_checkpoint.py" "$3" '
                          f'--stage "$1" --params "$2"\n')
        script.chmod(0o755)
        return self._make(f"real-z{stage}", [script, stage, self.real_params], env)

    def drop(self, *folders):
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
            pathlib.Path(f"{folder}.made").unlink(missing_ok=True)


def find_peer(wanted):
    """A Python that has DeepSpeed, or None."""
    for candidate in [wanted, sys.executable]:
        if candidate and subprocess.run(
                [candidate, "-c", "import importlib.util as u, sys;"
                 "sys.exit(not all(map(u.find_spec, ('torch', 'deepspeed', 'transformers'))))"],
                capture_output=True).returncode == 0:
            return candidate
    return None


def evict(folder):
    """Takes the files of a folder, which are on the disk, out of the page cache."""
    for path in pathlib.Path(folder).rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def warm(folder):
    """Reads the files of a folder, but for their holes, into the page cache."""
    for path in pathlib.Path(folder).rglob("*"):
        if path.is_file():
            with open(path, "rb", buffering=0) as file:
                read_data(file.fileno(), path.stat().st_size)


def read_data(fd, size):
    at = 0
    while at < size:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            return
        at = os.lseek(fd, begin, os.SEEK_HOLE)
        while begin < at:
            n = len(os.pread(fd, min(1 << 24, at - begin), begin))
            if n == 0:
                return
            begin += n
