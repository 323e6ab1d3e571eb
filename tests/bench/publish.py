#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Puts the results of bench.py into the documentation: publish.py RESULTS DOCS.

The table goes between two marks in DOCS/performance.md, plots and JSON beside it.
"""

import pathlib
import shutil
import sys

BEGIN, END = "<!-- bench.py: begin -->\n", "<!-- bench.py: end -->\n"


def main():
    results, docs = map(pathlib.Path, sys.argv[1:])
    page = docs / "performance.md"
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    page.write_text(before + BEGIN + (results / "table.md").read_text() + END + after)
    shutil.copy(results / "results.json", docs / "performance.json")
    for plot in ("performance.svg", "kernels.svg"):
        shutil.copy(results / plot, docs / plot)


if __name__ == "__main__":
    main()
