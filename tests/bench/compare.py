#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times unzero, zero_to_fp32.py and cp on one checkpoint, in turn, and prints medians and ratios.

Machines are noisy: only ratios within a run mean something. Every output is compared with that of
the peer before its time counts.
"""

import argparse
import filecmp
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import time


def timed(command, env=None):
    """Wall seconds and peak RSS in MiB of one command."""
    begin = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begin
    if status != 0:
        sys.exit(f"{command[0]} failed: {errors.decode(errors='replace')}")
    return seconds, usage.ru_maxrss / 1024


def fresh(path):
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def contenders(args, work):
    """Name -> (command, output folder); cp copies the consolidated file."""
    peer = [sys.executable, str(args.checkpoint / "zero_to_fp32.py"), "--safe_serialization",
            "--max_shard_size", "1TB", str(args.checkpoint), str(work / "peer")]
    tool = [args.unzero, "consolidate", "--quiet", "--force", "--sync", args.sync,
            "--max-shard-size", "0", str(args.checkpoint), str(work / "unzero")]
    copy = ["cp", "--reflink=never", "--sparse=never", str(work / "reference.safetensors"),
            str(work / "copy" / "model.safetensors")]
    return {"zero_to_fp32.py": (peer, work / "peer"), "unzero": (tool, work / "unzero"),
            "cp": (copy, work / "copy")}


def same_output(work, folder):
    return filecmp.cmp(work / "reference.safetensors", folder / "model.safetensors", shallow=False)


def run(args):
    work = fresh(args.work)
    env = dict(os.environ, DS_ACCELERATOR="cpu")
    table = contenders(args, work)
    command, folder = table["zero_to_fp32.py"]
    fresh(folder)
    timed(command, env)
    shutil.move(folder / "model.safetensors", work / "reference.safetensors")
    times = {name: [] for name in table}
    peaks = {name: 0 for name in table}
    for _ in range(args.pairs):
        for name, (command, folder) in table.items():
            fresh(folder)
            seconds, peak = timed(command, env)
            if not same_output(work, folder):
                sys.exit(f"{name}: the output differs from the first one of zero_to_fp32.py")
            fresh(folder)
            times[name].append(seconds)
            peaks[name] = max(peaks[name], peak)
    shutil.rmtree(work)
    return times, peaks


def report(times, peaks, as_json):
    medians = {name: statistics.median(values) for name, values in times.items()}
    rows = [{"name": name, "median_seconds": medians[name], "min_seconds": min(values),
             "max_seconds": max(values), "peak_rss_mib": round(peaks[name], 1),
             "times_unzero": statistics.median(a / b for a, b in zip(values, times["unzero"]))}
            for name, values in times.items()]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'':18}{'median':>9}{'min':>9}{'max':>9}{'peak MiB':>10}{'x unzero':>10}")
    for row in rows:
        print(f"{row['name']:18}{row['median_seconds']:>8.2f}s{row['min_seconds']:>8.2f}s"
              f"{row['max_seconds']:>8.2f}s{row['peak_rss_mib']:>10.1f}{row['times_unzero']:>10.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=pathlib.Path,
                        help="a folder with `latest` and zero_to_fp32.py (make_checkpoint.py)")
    parser.add_argument("--unzero", default="unzero", help="the program")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("bench-work"),
                        help="folder for outputs; emptied")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--sync", default="none", choices=["none", "data", "full"])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    report(*run(args), args.json)


if __name__ == "__main__":
    main()
