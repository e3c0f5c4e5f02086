"""What a program tells of itself while it runs; `tests/command/test_top.py` has who may ask, and how it is shown."""

import itertools
import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.local("workers here are watched")

PROGRAM = """
import json, os, socket
import farexec

def tell():
    with socket.socket(socket.AF_UNIX) as asked:
        asked.connect(os.environ["FAREXEC_MONITOR"])
        with asked.makefile() as line:
            [group] = json.loads(line.read())["groups"]
    print(json.dumps(group["gateways"]), flush=True)

def half(number):
    return 1 / (number % 4)

with farexec.Group(["popen"] * 2) as group:
    gateway = group[0]
    tell()
    channel = gateway.remote_exec("channel.receive()")
    tell()
    assert gateway.call("math:sqrt", 4) == 2
    for _ in range(2):
        try:
            gateway.call("math:sqrt", -1)
        except farexec.RemoteError:
            pass
    tell()
    channel.send(None)
    channel.waitclose()
    assert len(list(group.map(half, range(8), on_error="return"))) == 8
    with farexec.Executor(group=group) as executor:
        future = executor.submit("math:sqrt", 9)
        assert future.result() == 3
    tell()
    gateway.exit()
    gateway.join()
    tell()
    tell()
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What a program told of its gateways, each time that it was asked."""
    folder = tmp_path_factory.mktemp("m")
    (folder / "program.py").write_text(PROGRAM)
    environment = {**os.environ, "FAREXEC_MONITOR": str(folder / "s")}
    ran = subprocess.run(
        [sys.executable, folder / "program.py"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return [json.loads(line) for line in ran.stdout.splitlines()]


def counts(gateway):
    return [gateway[key] for key in ("executions", "tasks", "done", "failed")]


def test_executions_are_told_from_calls(told):
    idle, executing, called, worked, *_ = told
    assert [counts(gateway) for gateway in idle] == [[0, 0, 0, 0]] * 2
    assert [counts(gateway) for gateway in executing] == [[1, 0, 0, 0], [0, 0, 0, 0]]
    # A lane for calls is a channel, and no execution of the user's.
    assert counts(called[0]) == [1, 0, 1, 2]
    assert called[0]["channels"] == 2
    # All calls of the first gateway, then the map, then the executor's.
    assert [sum(column) for column in zip(*map(counts, worked), strict=True)] == [0, 0, 1 + 6 + 1, 2 + 2]


def test_times_add_up(told):
    for before, after in itertools.pairwise(told):
        for old, new in zip(before, after, strict=True):
            assert old["start_seconds"] == new["start_seconds"] > 0
            assert old["wait_seconds"] <= new["wait_seconds"]
            assert old["work_seconds"] <= new["work_seconds"]
    assert told[0][0]["work_seconds"] == 0
    assert told[2][0]["work_seconds"] > 0
    assert told[2][1]["work_seconds"] == 0


def test_time_stands_still_for_a_gateway_that_has_ended(told):
    *_, one, other = told
    assert one[0]["state"] == "ended"
    assert one[0] == other[0]
    assert one[1]["wait_seconds"] < other[1]["wait_seconds"]
