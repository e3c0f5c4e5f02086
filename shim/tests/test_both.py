"""The same program under execnet 2.1.2 and under the shim prints the same; what differs is meant, and docs/EXECNET.md says why."""

import os
import pathlib
import subprocess
import sys

PROGRAM = pathlib.Path(__file__).with_name("both.py")

# Names of lines that differ, each with a row in docs/EXECNET.md.
MEANT = {"loads b'\\x02'"}


def output(**environment):
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run([sys.executable, PROGRAM], capture_output=True, text=True, env=clean | environment, timeout=50)
    assert result.returncode == 0, result.stderr
    return dict(line.split(": ", 1) for line in result.stdout.splitlines())


def test_what_is_printed_is_the_same():
    theirs, ours = output(), output(PYTHONPATH=os.environ["PYTHONPATH"])
    assert list(theirs) == list(ours)
    different = {name for name in theirs if theirs[name] != ours[name]}
    told = [f"{name}\n  execnet: {theirs[name]}\n  farexec: {ours[name]}" for name in sorted(different - MEANT)]
    assert not told, "\n".join(told)
    assert not MEANT - different, f"no longer different: {MEANT - different}"
