#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures unzero against cp, dd, memcpy and DeepSpeed's converters: the rows of docs/performance.md.

Contenders run in turn, outputs are checked before a time counts, and what is told are ratios
within pairs: median and quartiles. Results are kept after each row, so a run that was interrupted
goes on where it was. About 15 minutes with DeepSpeed, 4 without; --quick: 3 minutes.
"""

import argparse
import json
import os
import pathlib
import platform
import resource
import shutil
import subprocess
import sys
import time

import measure
import report
from measure import Failed, LeftOut
from rows import ROWS, Context
from subjects import Subjects, find_peer


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unzero", type=pathlib.Path, required=True, help="the program")
    parser.add_argument("--tools", type=pathlib.Path, required=True,
                        help="folder with make_sparse and bench/kernels")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("bench-work"),
                        help="folder for checkpoints and outputs, 25 GB (--quick: 5 GB)")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("bench-results"),
                        help="folder for results.json, table.md and plots")
    parser.add_argument("--peer-python", help="a Python with torch, deepspeed and transformers")
    parser.add_argument("--quick", action="store_true",
                        help="a smaller model, fewer pairs, no peers unless --peer-python is given")
    parser.add_argument("--pairs", type=int, help="default 9; --quick: 5")
    parser.add_argument("--only", help="names of rows, with commas between them")
    parser.add_argument("--again", action="store_true", help="measure rows that have a result, too")
    parser.add_argument("--realtime", action="store_true",
                        help="for a machine with other work on it: real-time priority (root)")
    parser.add_argument("--keep", action="store_true", help="keep the checkpoints that were made")
    parser.add_argument("--list", action="store_true", help="tell the rows and end")
    return parser.parse_args()


def first_line(path, start):
    try:
        lines = pathlib.Path(path).read_text().splitlines()
        return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(start)), "?")
    except OSError:
        return "?"


def describe_machine(work):
    file_system = subprocess.run(["stat", "-f", "-c", "%T", str(work)], capture_output=True,
                                 text=True).stdout.strip()
    flags = first_line("/proc/cpuinfo", "flags").split()
    return {"cpu": first_line("/proc/cpuinfo", "model name"),
            "cores": len(os.sched_getaffinity(0)),
            "instructions": [f for f in ("avx2", "f16c", "avx512f", "avx512bw") if f in flags],
            "memory_gib": round(int(first_line("/proc/meminfo", "MemTotal").split()[0]) / 2**20),
            "kernel": platform.release(), "file_system": file_system}


def the_program(path):
    """Not the script that libtool puts before a program that is not installed."""
    program = path.parent / ".libs" / path.name
    if not program.exists():
        return path
    os.environ["LD_LIBRARY_PATH"] = str(program.parent)
    return program


def fingerprint(args, model):
    """Results of another program, model or way of measuring are not kept."""
    import hashlib
    digest = hashlib.blake2b(digest_size=8)
    for path in (args.unzero, args.unzero.parent / "libunzero.so"):
        if path.exists():
            digest.update(path.read_bytes())
    return f"{digest.hexdigest()} {model} {args.pairs} {args.realtime}"


def load_results(path, key):
    try:
        results = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return results if results.get("key") == key else {}


def judge(row, result):
    if row.op is None or "failed" in result:
        return None
    return result["median"] <= row.target if row.op == "<=" else result["median"] >= row.target


def measure_row(row, context):
    try:
        result = row.measure(context)
    except LeftOut as reason:
        return {"name": row.name, "title": row.title, "left_out": str(reason)}
    except Failed as failure:
        result = {"failed": str(failure)}
    result.update(name=row.name, title=row.title, unit=row.unit, op=row.op, target=row.target,
                  met=judge(row, result))
    return result


def main():
    args = arguments()
    sys.stdout.reconfigure(line_buffering=True)
    if args.list:
        for row in ROWS:
            print(f"{row.name:16} {row.title}")
        return 0
    args.pairs = args.pairs or (5 if args.quick else 9)
    args.unzero, args.tools = the_program(args.unzero.resolve()), args.tools.resolve()
    measure.PEAK_RSS = args.tools / "peak_rss"
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for folder in (args.work, args.out):
        folder.mkdir(parents=True, exist_ok=True)
    args.work = args.work.resolve() / "unzero-bench"  # all of it is ours, and removed at the end
    args.work.mkdir(exist_ok=True)
    python = find_peer(args.peer_python) if args.peer_python or not args.quick else None
    model = "small" if args.quick else "large"
    subjects = Subjects(args.tools, args.work, model, python, "100e6" if args.quick else "439e6")
    context = Context(args.unzero, args.tools, args.work, subjects, args.pairs,
                      3 if args.quick else 7, args.realtime, args.quick, print)
    key = fingerprint(args, model)
    kept = load_results(args.out / "results.json", key).get("rows", {})
    results = {"key": key, "machine": describe_machine(args.work), "model": model,
               "pairs": args.pairs, "date": time.strftime("%Y-%m-%d"), "rows": dict(kept)}
    wanted = args.only.split(",") if args.only else [row.name for row in ROWS]
    unknown = set(wanted) - {row.name for row in ROWS}
    if unknown:
        sys.exit(f"no such row: {', '.join(sorted(unknown))} (see --list)")
    for row in (row for row in ROWS if row.name in wanted):
        if row.needs_peer and not subjects.has_peer():
            print(f"{row.name}: left out, no Python with DeepSpeed (tests/interop/setup.sh .venv)")
            continue
        if "median" in kept.get(row.name, {}) and not args.again:
            print(f"{row.name}: kept from an earlier run")
            continue
        begin = time.monotonic()
        results["rows"][row.name] = measure_row(row, context)
        print(f"{report.line(results['rows'][row.name])}  [{time.monotonic() - begin:.0f} s]")
        report.write(results, args.out, [r.name for r in ROWS])
    if not args.keep:
        shutil.rmtree(args.work)
    print(f"\n{report.table(results, [r.name for r in ROWS])}\n"
          f"{args.out}/results.json, table.md, performance.svg, kernels.svg")
    return 1 if any("failed" in r for r in results["rows"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
