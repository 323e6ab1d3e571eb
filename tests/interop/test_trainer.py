# SPDX-License-Identifier: Apache-2.0
"""A transformers Trainer resumes from its checkpoint folder on another number of ranks."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from common import run

HERE = pathlib.Path(__file__).resolve().parent
STAGES, WORLD, BATCH = (2, 3), 2, 4

RANDOM_STATES = {1: {"rng_state.pth"},
                 **{n: {f"rng_state_{rank}.pth" for rank in range(n)} for n in (2, 4)}}


def names_of(folder):
    return {path.name for path in folder.iterdir()}


def train(world, stage, work, *checkpoint):
    """{step: loss} of the steps that it made."""
    torchrun = pathlib.Path(sys.executable).with_name("torchrun")
    losses = work / "losses.json"
    done = subprocess.run(
        [torchrun, "--standalone", "--nproc_per_node", str(world),
         HERE / "hf_trainer.py", work / "run", str(stage), losses, *checkpoint],
        env=dict(os.environ, DS_ACCELERATOR="cpu", OMP_NUM_THREADS="1"),
        cwd=work, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=300)
    assert done.returncode == 0, done.stdout[-4000:]
    return json.loads(losses.read_text())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """For each stage the checkpoint folder after four steps, and all losses."""
    made = {}
    for stage in STAGES:
        work = tmp_path_factory.mktemp(f"stage{stage}")
        losses = train(WORLD, stage, work)
        assert list(losses) == ["1", "2", "3", "4", "5", "6"]
        assert losses["6"] < 0.8 * losses["1"], "it learns, so states matter"
        made[stage] = work / "run" / "checkpoint-4", losses
    return made


def set_batch(state_file, per_device):
    """The Trainer goes on with the batch of each device that it had, not with the whole batch."""
    state = json.loads(state_file.read_text())
    state_file.unlink()
    state_file.write_text(json.dumps({**state, "train_batch_size": per_device}))


@pytest.mark.parametrize("stage, world, new_stage",
                         [(2, 1, 2), (3, 4, 3), (3, 1, 2)])
def test_resumes(trained, stage, world, new_stage, tmp_path):
    checkpoint, losses = trained[stage]
    moved = tmp_path / "checkpoint-4"
    done = run("reshard", checkpoint, moved, "--dp", world, "--stage", new_stage)
    assert "train_batch_size" in done.stderr
    assert names_of(moved) == names_of(checkpoint) - RANDOM_STATES[WORLD] | RANDOM_STATES[world]
    set_batch(moved / "trainer_state.json", BATCH // world)
    resumed = train(world, new_stage, tmp_path, moved)
    assert list(resumed) == ["5", "6"], "four steps were made before"
    for step, loss in resumed.items():
        assert loss == pytest.approx(losses[step], abs=2e-4), step
