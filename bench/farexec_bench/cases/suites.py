"""pytest-xdist from the start of pytest to its end: workers that import what a test file with heavy imports needs.

The libraries differ in nothing but what `import execnet` gives in the interpreter that runs the case.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
from pathlib import Path

from ..casework import Figures, Run, case
from .starting import check

TESTS_PER_WORKER = 4

SUITE = """
import asyncio, concurrent.futures, csv, decimal, difflib, email.message, http.client, json, logging, sqlite3
import unittest.mock, urllib.request, xml.etree.ElementTree

import numpy
import pytest


@pytest.mark.parametrize("number", range({count}))
def test_nothing(number):
    pass
"""


@case("suite")
def suite(run: Run) -> Figures:
    """Empty tests in a file that imports a lot, by `size` workers; with the option alone, by pytest itself."""
    run.facts["execnet"] = version = importlib.import_module("execnet").__version__
    check(("farexec" in version) == (run.library == "farexec"), "the interpreter has what is to be measured")
    count = run.size * TESTS_PER_WORKER
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    if "alone" in run.options:
        command += ["-p", "no:xdist"]
    else:
        command += ["--dist", "load", "--tx", f"{run.size}*{run.spec}"]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_suite.py").write_text(SUITE.format(count=count))

        def once() -> None:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            check(f"{count} passed" in done.stdout, f"all tests pass; pytest said {done.stdout + done.stderr}")

        return run.sample(once)
