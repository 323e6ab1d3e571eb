# SPDX-License-Identifier: Apache-2.0
"""Tells results: a line, a table in Markdown, JSON, and plots in SVG."""

import json
import math

GREEN, RED, GREY, INK = "#2e7d32", "#c62828", "#607d8b", "#222"


def number(value):
    if value is None:
        return ""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def verdict(result):
    return {True: "met", False: "missed", None: ""}[result["met"]]


def line(result):
    for key in ("left_out", "failed"):
        if key in result:
            return f"{result['name']}: {key.replace('_', ' ')}: {result[key]}"
    target = f", target {result['op']} {number(result['target'])}" if result["op"] else ""
    return (f"{result['name']}: {number(result['median'])} {result['unit']} "
            f"[{number(result['q1'])} .. {number(result['q3'])}]{target} {verdict(result)}")


def seconds_of(result):
    return "; ".join(f"{name} {number(c['seconds']['median'])} s"
                     for name, c in result.get("contenders", {}).items())


def details(result):
    parts = [seconds_of(result)] if "contenders" in result else []
    if "rss_mib" in result:
        parts.append(f"{result['rss_mib']:.0f} MiB")
    if "law" in result:
        law = result["law"]
        parts.append(f"{law['base_mib']} MiB + threads x {law['thread_mib']} MiB + "
                     f"{law['bytes_each']} bytes x (pieces + tensors)")
    if "slowest" in result:
        parts.append(result["slowest"])
    return "; ".join(parts)


def table(results, order):
    """Markdown, with a row for each result."""
    rows = ["| work | median | quartiles | target | | medians of time |", "|---|---|---|---|---|---|"]
    for name in order:
        result = results["rows"].get(name)
        if result is None:
            continue
        if "median" not in result:
            why = " ".join(result.get("failed", result.get("left_out")).split())
            rows.append(f"| {result['title']} | | | | {why} | |")
            continue
        target = f"{result['op']} {number(result['target'])}" if result["op"] else ""
        rows.append(f"| {result['title']} | {number(result['median'])} {result['unit']} | "
                    f"{number(result['q1'])}-{number(result['q3'])} | {target} | "
                    f"{verdict(result)} | {details(result)} |")
    machine = results["machine"]
    rows.append("")
    rows.append(f"{results['date']}: {machine['cpu']}, {machine['cores']} cores, "
                f"{machine['memory_gib']} GiB, {' '.join(machine['instructions'])}; Linux "
                f"{machine['kernel']}, {machine['file_system']}; {results['pairs']} pairs.")
    return "\n".join(rows)


def text(x, y, what, size=12, anchor="start", colour=INK):
    what = str(what).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
            f'fill="{colour}">{what}</text>')


def rectangle(x, y, width, height, colour, opacity=1.0):
    return (f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height:.1f}" '
            f'fill="{colour}" fill-opacity="{opacity}"/>')


def segment(x1, y1, x2, y2, colour=GREY, width=1.0, dashes=""):
    dash = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
            f'stroke-width="{width}"{dash}/>')


def svg(width, height, parts):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="sans-serif">\n'
            f'<rect width="{width}" height="{height}" fill="white"/>\n' + "\n".join(parts) +
            "\n</svg>\n")


def plot_rows(results, order):
    """Each judged row as a share of its target: what is left of the line is better."""
    rows = [results["rows"][name] for name in order
            if results["rows"].get(name, {}).get("op") and "median" in results["rows"][name]]
    left, right, top, step = 330, 880, 50, 26

    def share(result, value):
        return value / result["target"] if result["op"] == "<=" else result["target"] / value

    def place(value):
        return left + (math.log2(min(max(value, 1 / 16), 4)) + 4) / 6 * (right - left)

    bottom = top + step * len(rows)
    parts = [text(left, 20, "Measured, as a share of the target (log scale; left of 1: met)", 13)]
    for mark in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4):
        parts.append(segment(place(mark), top - 8, place(mark), bottom, INK if mark == 1 else "#ddd",
                             1.5 if mark == 1 else 1))
        parts.append(text(place(mark), top - 14, number(mark), 11, "middle"))
    for i, result in enumerate(rows):
        y = top + step * i + step / 2
        colour = GREEN if result["met"] else RED
        low, high = sorted(place(share(result, result[q])) for q in ("q1", "q3"))
        middle = place(share(result, result["median"]))
        parts.append(text(left - 8, y + 4, result["title"], 12, "end"))
        parts.append(rectangle(low, y - 6, high - low, 12, colour, 0.35))
        parts.append(segment(middle, y - 8, middle, y + 8, colour, 3))
        parts.append(text(right + 10, y + 4, f"{number(result['median'])} {result['unit']}", 11))
    return svg(1180, bottom + 20, parts)


def plot_kernels(table):
    """Casts of the best level by size, as a share of memcpy's rate."""
    level = table[-1]["level"]
    names = list(dict.fromkeys(t["cast"] for t in table))
    sizes = sorted({t["bytes"] for t in table})
    colours = ["#1565c0", "#2e7d32", "#ef6c00", "#6a1b9a", "#8d6e63", "#78909c"]
    left, right, top, bottom, most = 60, 640, 50, 360, 1.5

    def x(nbytes):
        span = math.log2(sizes[-1] / sizes[0])
        return left + math.log2(nbytes / sizes[0]) / span * (right - left)

    def y(ratio):
        return bottom - min(ratio, most) / most * (bottom - top)

    parts = [text(left, 20, f"Casts ({level}), as a share of memcpy of the bytes they touch", 13)]
    for mark in (0, 0.3, 0.6, 0.9, 1.2, 1.5):
        parts.append(segment(left, y(mark), right, y(mark), INK if mark == 0.9 else "#ddd"))
        parts.append(text(left - 8, y(mark) + 4, number(mark), 11, "end"))
    for nbytes in sizes:
        label = f"{nbytes >> 10} KiB" if nbytes < 1 << 20 else f"{nbytes / 2**20:g} MiB"
        parts.append(text(x(nbytes), bottom + 18, label, 11, "middle"))
    for name, colour in zip(names, colours):
        points = [(x(t["bytes"]), y(t["ratio"])) for t in table
                  if t["cast"] == name and t["level"] == level]
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="' +
                     " ".join(f"{a:.1f},{b:.1f}" for a, b in points) + '"/>')
        at = top + 18 * names.index(name)
        parts.append(rectangle(right + 20, at - 8, 14, 4, colour))
        parts.append(text(right + 40, at - 2, name, 12))
    return svg(780, bottom + 40, parts)


def write(results, out, order):
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (out / "table.md").write_text(table(results, order) + "\n")
    (out / "performance.svg").write_text(plot_rows(results, order))
    kernels = results["rows"].get("casts", {}).get("kernels")
    if kernels:
        (out / "kernels.svg").write_text(plot_kernels(kernels))
