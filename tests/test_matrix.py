"""The behaviour of workers in every interpreter: the tests that start workers on this machine, once for each."""

import pathlib
import subprocess
import sys

from places import SUITE


def test_the_suite_in(python):
    """`python -m pytest tests/test_channel.py --worker=2.7` runs one part in one interpreter."""
    folder = pathlib.Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(str(folder / name) for name in SUITE)]
    result = subprocess.run([*command, f"--worker={python}"], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    summary = result.stdout.strip().splitlines()[-1]
    assert int(summary.split(" passed")[0].split()[-1]) >= 145 and "skipped" not in summary, summary
