"""The behaviour of workers of every kind, in every interpreter: the tests of behaviour, once for each."""

import os
import pathlib
import subprocess
import sys

import pytest

import interpreters
from places import SUITE

pytestmark = pytest.mark.timeout(300)

# The suite itself runs with native workers that are forked from a template; those that are spawned have a step of their own in xtask.
KINDS = {
    "zero-install": {"FAREXEC_NATIVE": "no"},
    "zero-install, spawned": {"FAREXEC_NATIVE": "no", "FAREXEC_START": "spawn"},
}


def test_the_suite_in(python):
    """`python -m pytest tests/test_channel.py --worker=2.7` runs one part in one interpreter."""
    run_suite([f"--worker={python}"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_suite_with_another_kind_of_worker(kind):
    run_suite([], **KINDS[kind])


def test_the_suite_with_workers_that_are_sent_the_extension(python):
    if interpreters.version_of(python) < (3, 10) or "pypy" in python:
        pytest.skip("the extension module is for CPython from 3.10 on")
    run_suite([f"--worker={python}"], FAREXEC_NATIVE="push")


def run_suite(arguments, **environment):
    folder = pathlib.Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(str(folder / name) for name in SUITE), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, **environment})
    assert result.returncode == 0, result.stdout + result.stderr
    summary = result.stdout.strip().splitlines()[-1]
    assert int(summary.split(" passed")[0].split()[-1]) >= 160 and "skipped" not in summary, summary
