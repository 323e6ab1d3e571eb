# SPDX-License-Identifier: Apache-2.0
"""The table of regular expressions that `make check` uses is what Python's re says."""
import pathlib
import subprocess
import sys

TESTS = pathlib.Path(__file__).resolve().parent.parent


def test_table_is_what_python_says():
    made = subprocess.run([sys.executable, str(TESTS / "regex_table.py")], capture_output=True, check=True)
    assert made.stdout == (TESTS / "regex_table.h").read_bytes()
