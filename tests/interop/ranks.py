# SPDX-License-Identifier: Apache-2.0
"""Ranks of a world as processes that fork from one which has imported PyTorch and DeepSpeed.

With torchrun each of them imports both again, which takes longer than the tests.
"""

import multiprocessing
import os
import socket
import sys

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["resume", "torch._dynamo"])
os.environ.update(DS_ACCELERATOR="cpu", OMP_NUM_THREADS="1")  # the server has them from here


def enter(rank, world, port, work, argv):
    import resume  # the server has imported it
    log = os.open(work / f"rank-{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(work)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world),
                      LOCAL_WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1",
                      MASTER_PORT=str(port))
    sys.argv = ["resume.py", *map(str, argv)]
    resume.main()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_ranks(world, work, argv):
    """Runs resume.main with these arguments on each rank; their output is in work/rank-N.log."""
    port = free_port()
    ranks = [CONTEXT.Process(target=enter, args=(rank, world, port, work, argv))
             for rank in range(world)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(600)
    alive = [rank for rank in ranks if rank.is_alive()]
    for rank in alive:
        rank.kill()
    logs = "\n".join((work / f"rank-{i}.log").read_text()[-3000:] for i in range(world))
    assert not alive, f"{len(alive)} ranks hang: {logs}"
    assert all(rank.exitcode == 0 for rank in ranks), logs
