# SPDX-License-Identifier: Apache-2.0
"""What is measured: each row is a question with a target and a way to get the numbers."""

import dataclasses
import json
import os
import shutil
import subprocess
from typing import Callable, Optional

import outputs
from measure import Contender, Failed, LeftOut, alternate, fresh, ratios, run, spread
from subjects import evict, warm


@dataclasses.dataclass
class Row:
    name: str
    title: str
    unit: str
    op: Optional[str]          # "<=" or ">="; None: told, not judged
    target: Optional[float]
    measure: Callable
    needs_peer: bool = False


ROWS = []


def row(name, title, unit, op=None, target=None, needs_peer=False):
    def register(measure):
        ROWS.append(Row(name, title, unit, op, target, measure, needs_peer))
        return measure
    return register


class Context:
    """What all rows share."""

    def __init__(self, unzero, tools, work, subjects, pairs, peer_pairs, realtime, quick, log):
        self.unzero, self.tools, self.work, self.subjects = unzero, tools, work, subjects
        self.pairs, self.peer_pairs = pairs, peer_pairs
        self.realtime, self.quick, self.log = realtime, quick, log

    def consolidate(self, name, checkpoint, *options, check=outputs.same_tensors, expected=None,
                    sync="none", out="model.safetensors", prepare=lambda: None):
        expected = expected or self.subjects.expected()
        return Contender(
            name,
            lambda folder: [self.unzero, "consolidate", "--quiet", "--sync", sync,
                            "--max-shard-size", "0", *options, checkpoint, folder / "o"],
            lambda folder: check(expected, folder / "o" / out), prepare)

    def copy(self, name="cp", source=None, sync=False, prepare=lambda: None):
        source = source or self.subjects.expected()
        script = 'cp --reflink=never --sparse=never "$1" "$2"' + (' && sync "$2"' if sync else "")
        return Contender(name, lambda folder: ["sh", "-c", script, "sh", source, folder / "copy"],
                         lambda folder: outputs.same_file(source, folder / "copy"), prepare)

    def compare(self, ours, other, pairs=None, inverse=False):
        """Spread of seconds of the first by seconds of the second."""
        taken = alternate([ours, other], self.work, pairs or self.pairs, self.realtime, self.log)
        a, b = taken[ours.name], taken[other.name]
        result = ratios(b, a) if inverse else ratios(a, b)
        result["contenders"] = {
            name: {"seconds": spread([t["seconds"] for t in times]),
                   "rss_mib": max(t["rss_mib"] for t in times)} for name, times in taken.items()}
        return result


def plain(ctx):
    checkpoint = ctx.subjects.made("z2")
    warm(checkpoint)
    return checkpoint


@row("fp32", "fp32 safetensors, ZeRO-2", "x cp", "<=", 0.75)
def fp32(ctx):
    return ctx.compare(ctx.consolidate("unzero", plain(ctx)), ctx.copy())


@row("fp32-z3", "fp32 safetensors, ZeRO-3 of 8 ranks", "x cp", "<=", 0.75)
def fp32_z3(ctx):
    checkpoint = ctx.subjects.made("z3", stage=3, ranks=8)
    warm(checkpoint)
    return ctx.compare(ctx.consolidate("unzero", checkpoint), ctx.copy())


@row("sync", "the same, --sync full", "x cp and sync", "<=", 1.0)
def sync_full(ctx):
    return ctx.compare(ctx.consolidate("unzero", plain(ctx), sync="full"), ctx.copy(sync=True))


@row("bf16", "--dtype bf16", "x cp of the fp32 bytes", "<=", 0.5)
def bf16(ctx):
    return ctx.compare(ctx.consolidate("unzero", plain(ctx), "--dtype", "bf16",
                                       check=outputs.rounded_tensors), ctx.copy())


@row("pt", "--format pt", "x our safetensors", "<=", 1.15)
def pt(ctx):
    checkpoint = plain(ctx)
    return ctx.compare(
        ctx.consolidate("pt", checkpoint, "--format", "pt", check=outputs.same_storages,
                        out="pytorch_model.bin"),
        ctx.consolidate("safetensors", checkpoint))


def joined(ctx, model):
    checkpoint = ctx.subjects.made("tp", stage=1, ranks=1, tp=2, rows_only=True, model=model)
    whole = ctx.subjects.made("z2", model=model)
    expected = ctx.subjects.expected(model)
    rules = ctx.work / "rows.json"
    rules.write_text(json.dumps({
        "parameter_with_row_parallelism_patterns": [r".*(_proj|embed_tokens|lm_head)\.weight"],
        "tp_replicated_parameter_patterns": [r".*layernorm\.weight"]}))
    warm(checkpoint)
    warm(whole)
    return ctx.compare(
        ctx.consolidate("joined", checkpoint, "--tp-map", rules, expected=expected),
        ctx.consolidate("plain", whole, expected=expected))


@row("tp", "2 tensor ranks, all matrices joined on dim 1, rows of 8 KiB", "x plain", "<=", 1.3)
def tp(ctx):
    return joined(ctx, "wide")


@row("tp-narrow", "the same, rows of 2 KiB (--quick: 1 KiB)", "x plain")
def tp_narrow(ctx):
    return joined(ctx, ctx.subjects.model)


@row("fragments", "ZeRO-3 of 1,024 ranks, norms of 4 KiB", "x the rate of plain", ">=", 0.5)
def fragments(ctx):
    checkpoint = ctx.subjects.made("z3-1024", stage=3, ranks=1024)
    warm(checkpoint)
    return ctx.compare(ctx.consolidate("1,024 ranks", checkpoint),
                       ctx.consolidate("plain", plain(ctx)), inverse=True)


@row("threads", "two threads against one", "x", ">=", 1.6)
def threads(ctx):
    checkpoint = plain(ctx)
    result = ctx.compare(ctx.consolidate("2 threads", checkpoint, "--threads", "2"),
                         ctx.consolidate("1 thread", checkpoint, "--threads", "1"), inverse=True)
    cores = len(os.sched_getaffinity(0))
    for n in (n for n in (4, 8, 16) if n <= cores):
        more = ctx.compare(ctx.consolidate(f"{n} threads", checkpoint, "--threads", str(n)),
                           ctx.consolidate("1 thread", checkpoint, "--threads", "1"), inverse=True)
        result["contenders"][f"{n} threads"] = {**more["contenders"][f"{n} threads"],
                                                "times_one": more["median"]}
    return result


@row("threads-bf16", "the same, --dtype bf16", "x")
def threads_bf16(ctx):
    checkpoint, options = plain(ctx), {"check": outputs.rounded_tensors}
    return ctx.compare(
        ctx.consolidate("2 threads", checkpoint, "--threads", "2", "--dtype", "bf16", **options),
        ctx.consolidate("1 thread", checkpoint, "--threads", "1", "--dtype", "bf16", **options),
        inverse=True)


@row("cold", "cold cache", "x the rate of dd bs=4M", ">=", 0.95)
def cold(ctx):
    checkpoint, source = ctx.subjects.made("z2"), ctx.subjects.expected()
    dd = Contender("dd", lambda folder: ["dd", f"if={source}", f"of={folder}/copy", "bs=4M"],
                   lambda folder: outputs.same_file(source, folder / "copy"),
                   lambda: evict(source.parent))
    return ctx.compare(ctx.consolidate("unzero", checkpoint, prepare=lambda: evict(checkpoint)), dd,
                       inverse=True)


@row("cold-read", "cold cache, dd only reads", "x the rate of dd bs=4M of=/dev/null")
def cold_read(ctx):
    checkpoint, source = ctx.subjects.made("z2"), ctx.subjects.expected()
    dd = Contender("dd", lambda folder: ["dd", f"if={source}", "of=/dev/null", "bs=4M"],
                   prepare=lambda: evict(source.parent))
    return ctx.compare(ctx.consolidate("unzero", checkpoint, prepare=lambda: evict(checkpoint)), dd,
                       inverse=True)


READ_ALL = {"cat": 'cat "$@" > /dev/null',
            "dd": 'for f; do dd if="$f" of=/dev/null bs=4M || exit; done'}


def verify_data(ctx, checkpoint, reader, pairs=None, prepare=lambda: None):
    """verify --data of all files against something that only reads them."""
    files = sorted(p for p in checkpoint.rglob("*.pt"))
    other = Contender(reader, lambda folder: ["sh", "-c", READ_ALL[reader], "sh", *files],
                      prepare=prepare)
    ours = Contender("unzero", lambda folder: [ctx.unzero, "verify", "--data", "--quiet", "--strict",
                                               "--threads", "2", checkpoint], prepare=prepare)
    return ctx.compare(ours, other, pairs, inverse=True)


def written(ctx, stage):
    """A sound one without holes: from ZeRO 3 reshard makes 16-bit weights of the masters."""
    source, folder = ctx.subjects.made("z3", stage=3, ranks=8), ctx.work / f"written-z{stage}"
    if not folder.exists():
        run([ctx.unzero, "reshard", "--quiet", "--sync", "none", "--dp", "2", "--stage",
             str(stage), source, folder])
    return folder


@row("verify", "verify --data, 2 threads, ZeRO-2", "x the rate of cat > /dev/null", ">=", 0.5)
def verify_z2(ctx):
    checkpoint = written(ctx, 2)
    warm(checkpoint)
    return verify_data(ctx, checkpoint, "cat")


@row("verify-z3", "the same, ZeRO-3", "x the rate of cat > /dev/null", ">=", 0.5)
def verify_z3(ctx):
    checkpoint = written(ctx, 3)
    warm(checkpoint)
    return verify_data(ctx, checkpoint, "cat")


@row("verify-universal", "the same, universal", "x the rate of cat > /dev/null", ">=", 0.5)
def verify_universal(ctx):
    folder = ctx.work / "written-universal"
    if not folder.exists():
        run([ctx.unzero, "universal", "--quiet", "--sync", "none", written(ctx, 2), folder])
    warm(folder)
    return verify_data(ctx, folder, "cat")


@row("verify-cold", "verify --data, cold cache, ZeRO-2", "x the rate of dd bs=4M", ">=", 0.9)
def verify_cold(ctx):
    checkpoint = written(ctx, 2)
    return verify_data(ctx, checkpoint, "dd", prepare=lambda: evict(checkpoint))


def dry_run(ctx, checkpoint, *options):
    return run([ctx.unzero, "consolidate", "--dry-run", "--quiet", *options, checkpoint,
                ctx.work / "none"], realtime=ctx.realtime)


def planning(ctx, stage, command):
    checkpoint = ctx.subjects.sparse(stage, 1024, 500, 10000)
    takes = [command(checkpoint) for _ in range(min(ctx.pairs, 7) + 1)][1:]
    result = spread([t["seconds"] for t in takes])
    result["rss_mib"] = max(t["rss_mib"] for t in takes)
    return result


@row("plan-z2", "plan of 1,024 ranks x 500 tensors, 10 TB, ZeRO-2", "s", "<=", 2.0)
def plan_z2(ctx):
    return planning(ctx, 2, lambda checkpoint: dry_run(ctx, checkpoint))


@row("plan-z3", "the same, ZeRO-3", "s", "<=", 2.0)
def plan_z3(ctx):
    return planning(ctx, 3, lambda checkpoint: dry_run(ctx, checkpoint))


@row("inspect-z3", "inspect of the same", "s", "<=", 2.0)
def inspect_z3(ctx):
    return planning(ctx, 3, lambda checkpoint: run([ctx.unzero, "inspect", checkpoint],
                                                   realtime=ctx.realtime))


@row("plan-rss", "memory for that plan and inspect, the largest", "MiB", "<=", 256)
def plan_rss(ctx):
    takes = []
    for stage in (2, 3):
        checkpoint = ctx.subjects.sparse(stage, 1024, 500, 10000)
        takes.append(dry_run(ctx, checkpoint))
        takes.append(run([ctx.unzero, "inspect", checkpoint]))
    return spread([max(t["rss_mib"] for t in takes)])


@row("scale", "ten times the pieces, ZeRO-3", "x the time", "<=", 10)
def scale(ctx):
    few, many = (ctx.subjects.sparse(3, 256, n, 1000) for n in (500, 5000))
    pairs = [(dry_run(ctx, many), dry_run(ctx, few)) for _ in range(min(ctx.pairs, 7) + 1)][1:]
    return ratios([a for a, _ in pairs], [b for _, b in pairs])


def real_run_memory(ctx, checkpoint, threads):
    took = run([ctx.unzero, "consolidate", "--quiet", "--sync", "none", "--threads", threads,
                checkpoint, fresh(ctx.work / "out") / "o"])
    fresh(ctx.work / "out").rmdir()
    return took["rss_mib"]


@row("rss", "peak memory, 2 threads, 64 ranks x 10,000 tensors", "MiB", "<=", 64)
def rss(ctx):
    return spread([max(real_run_memory(ctx, ctx.subjects.sparse(stage, 64, 10000, 1), 2)
                       for stage in (2, 3))])


@row("rss-law", "memory for each piece and tensor, ZeRO-3", "bytes")
def rss_law(ctx):
    """base + threads x t + c x (pieces + tensors), from dry runs; converting adds two buffers of
    4 MiB for each thread."""
    sizes = [(64, 2000), (64, 10000)]
    small, large = (ctx.subjects.sparse(3, ranks, tensors, 1) for ranks, tensors in sizes)
    n_small, n_large = ((ranks + 1) * tensors for ranks, tensors in sizes)
    one, two = (dry_run(ctx, small, "--threads", n)["rss_mib"] for n in (1, 2))
    c = (dry_run(ctx, large, "--threads", 1)["rss_mib"] - one) * 2**20 / (n_large - n_small)
    result = spread([c])
    result["law"] = {"thread_mib": round(two - one, 1),
                     "base_mib": round(one - (two - one) - c * n_small / 2**20, 1),
                     "bytes_each": round(c)}
    return result


def real_reference(ctx, stage):
    """The checkpoint and what DeepSpeed's own script makes of it."""
    checkpoint = ctx.subjects.real(stage)
    reference = ctx.work / f"reference-z{stage}"
    if not (reference / "model.safetensors").exists():
        fresh(reference)
        run(peer_command(ctx, checkpoint, reference), PEER_ENV)
    warm(checkpoint)
    return checkpoint, reference / "model.safetensors"


PEER_ENV = {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "2"}


def peer_command(ctx, checkpoint, out):
    return [ctx.subjects.python, checkpoint / "zero_to_fp32.py", "--safe_serialization",
            "--max_shard_size", "1TB", checkpoint, out]


def against_zero_to_fp32(ctx, stage):
    checkpoint, reference = real_reference(ctx, stage)
    peer = Contender("zero_to_fp32.py", lambda folder: peer_command(ctx, checkpoint, folder),
                     lambda folder: outputs.same_file(reference, folder / "model.safetensors"),
                     env=PEER_ENV)
    ours = ctx.consolidate("unzero", checkpoint, expected=reference, check=outputs.same_file)
    return ctx.compare(ours, peer, ctx.peer_pairs, inverse=True)


@row("real", "fp32 of DeepSpeed's checkpoint, ZeRO-2", "x cp", "<=", 0.75, needs_peer=True)
def real(ctx):
    checkpoint, reference = real_reference(ctx, 2)
    return ctx.compare(ctx.consolidate("unzero", checkpoint, expected=reference,
                                       check=outputs.same_file), ctx.copy(source=reference))


@row("peer-z2", "zero_to_fp32.py --safe_serialization, ZeRO-2", "x our time", ">=", 12, True)
def peer_z2(ctx):
    return against_zero_to_fp32(ctx, 2)


@row("peer-z3", "the same, ZeRO-3", "x our time", ">=", 8, True)
def peer_z3(ctx):
    return against_zero_to_fp32(ctx, 3)


@row("peer-torch", "zero_to_torch --dtype bf16, ZeRO-2", "x our time", needs_peer=True)
def peer_torch(ctx):
    checkpoint, reference = real_reference(ctx, 2)
    # It keeps buffers and odd tensors as they are; our own output is held against the masters.
    peer = Contender("zero_to_torch", lambda folder: [
        ctx.subjects.python, "-m", "deepspeed.utils.zero_to_torch", "--dtype", "bf16",
        "--safe_serialization", "--max_shard_size", "1TB", checkpoint, folder],
        lambda folder: outputs.rounded_tensors(reference, folder / "model.safetensors"),
        env=PEER_ENV)
    ours = ctx.consolidate("unzero", checkpoint, "--dtype", "bf16", expected=reference,
                           check=outputs.rounded_tensors)
    return ctx.compare(ours, peer, min(ctx.peer_pairs, 3), inverse=True)


def same_universal(ours, peers):
    names = [{p.relative_to(folder) for p in folder.glob("zero/*/*.pt")}
             for folder in (ours, peers)]
    if names[0] != names[1] or not names[0]:
        raise Failed(f"other files than ds_to_universal.py: {sorted(names[0] ^ names[1])[:5]}")
    for name in sorted(names[0]):
        if outputs.storages(ours / name) != outputs.storages(peers / name):
            raise Failed(f"{name} differs from that of ds_to_universal.py")


@row("peer-universal", "ds_to_universal.py, ZeRO-2", "x our time", ">=", 25, True)
def peer_universal(ctx):
    if subprocess.run([ctx.unzero, "universal", "--help"], capture_output=True).returncode != 0:
        raise LeftOut("this unzero has no command `universal`")
    checkpoint = ctx.subjects.real(2)
    warm(checkpoint)
    reference = ctx.work / "reference-universal"
    tag = (checkpoint / "latest").read_text().strip()

    def peer_command(folder):
        return [ctx.subjects.python, "-m", "deepspeed.checkpoint.ds_to_universal",
                "--inject_missing_state", "--input_folder", checkpoint / tag,
                "--output_folder", folder / "o"]

    def keep(folder):
        shutil.copytree(folder / "o", fresh(reference) / "o", copy_function=os.link)

    peer = Contender("ds_to_universal.py", peer_command, keep, env=PEER_ENV)
    ours = Contender("unzero", lambda folder: [ctx.unzero, "universal", "--quiet", "--sync", "none",
                                               checkpoint, folder / "o"],
                     lambda folder: same_universal(folder / "o", reference / "o"))
    result = ctx.compare(peer, ours, min(ctx.peer_pairs, 3))
    ctx.subjects.drop(reference)
    return result


def kernel_table(ctx):
    words = [str(ctx.tools / "bench" / "kernels")] + (["--quick"] if ctx.quick else [])
    if ctx.realtime:
        words = ["chrt", "-f", "1"] + words
    return json.loads(subprocess.run(words, check=True, capture_output=True).stdout)


@row("casts", "fp32 <-> bf16, fp16 in cache, the slowest", "x memcpy", ">=", 0.9)
def casts(ctx):
    table = kernel_table(ctx)
    best = [t for t in table if t["level"] == table[-1]["level"] and "f32" in t["cast"]
            and 64 << 10 <= t["bytes"] <= 16 << 20]
    worst = min(best, key=lambda t: t["ratio"])
    return {**spread([worst["ratio"]]), "q1": worst["q1"], "q3": worst["q3"], "kernels": table,
            "slowest": f"{worst['cast']} of {worst['bytes'] >> 10} KiB, {worst['level']}"}
