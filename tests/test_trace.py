"""The trace: what workers did when, in a file that Perfetto reads; whole at any time, and never to the program's harm."""

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
from collections import Counter

import pytest

import farexec
import shell
from farexec import aio

pytestmark = pytest.mark.local("the trace is of workers here")


def events_of(path):
    """The events of a trace that may be still written; each has a line of its own."""
    text = path.read_text()
    first, *lines = text.split("\n")
    assert first == "["
    events = [json.loads(line.removesuffix(",")) for line in lines]
    # The array lacks nothing but its end.
    assert json.loads(text + "]") == events
    return events


def named(events, name):
    return [event for event in events if event["name"] == name]


def tracks_of(events):
    """The numbers of tracks by the id of their gateways."""
    names = named(events, "process_name")
    assert names[0]["args"]["name"].startswith("coordinator: ")
    return {event["args"]["name"]: event["pid"] for event in names[1:]}


def spans(events, category):
    return [event for event in events if event["ph"] == "X" and event["cat"] == category]


def check_no_overlap(events):
    """On one row there is one thing after the other."""
    rows = {}
    for event in events:
        if event["ph"] == "X":
            rows.setdefault((event["pid"], event["tid"]), []).append((round(event["ts"] * 1000), round(event["dur"] * 1000)))
    for of_row in rows.values():
        of_row.sort()
        for (start, duration), (following, _) in itertools.pairwise(of_row):
            assert start + duration <= following
    return rows


def test_each_task_is_there_once(tmp_path):
    path = tmp_path / "trace.json"

    def work(number):
        if number % 10 == 3:
            raise ValueError(number)
        return number

    with farexec.Group(["popen"] * 3, trace=path) as group:
        for _ in range(2):
            assert len(list(group.map(work, range(200), on_error="return"))) == 200
    events = events_of(path)
    tasks = spans(events, "map")
    assert Counter(event["args"]["item"] for event in tasks) == dict.fromkeys(range(200), 2)
    for event in tasks:
        assert event["args"]["outcome"] == ("error" if event["args"]["item"] % 10 == 3 else "result")
        assert event["name"] == f"item {event['args']['item']}"
        assert event["args"]["wait_seconds"] >= 0
        assert event["args"]["work_seconds"] == pytest.approx(event["dur"] / 1e6)
    tracks = tracks_of(events)
    assert sorted(tracks) == ["gw0", "gw1", "gw2"]
    assert {event["pid"] for event in tasks} <= set(tracks.values())
    # The second map has the row of the first.
    rows = check_no_overlap(events)
    assert len(rows) == 6
    for track in tracks.values():
        assert [event["name"] for event in events if event["pid"] == track and event.get("cat") == "life"] == ["start", "end"]
    assert all("ended as asked" in event["args"]["reason"] for event in named(events, "end"))


def test_calls_and_executions(tmp_path):
    path = tmp_path / "trace.json"

    def wait_for_end(channel):
        channel.receive()

    with farexec.Group(["popen"], trace=path) as group:
        gateway = group[0]
        channel = gateway.remote_exec(wait_for_end)
        assert [gateway.call("math:factorial", number) for number in range(5)] == [1, 1, 2, 6, 24]
        with pytest.raises(farexec.RemoteError):
            gateway.call("math:factorial", -1)
        assert "e" not in [event["ph"] for event in events_of(path)]
        channel.send(None)
        channel.waitclose()
    events = events_of(path)
    calls = spans(events, "calls")
    assert [event["name"] for event in calls] == ["factorial"] * 6
    assert [event["args"]["outcome"] for event in calls] == ["result"] * 5 + ["error"]
    check_no_overlap(events)
    begin, end = [event for event in events if event.get("cat") == "execution"]
    assert (begin["ph"], end["ph"], begin["name"]) == ("b", "e", "wait_for_end")
    assert begin["id"] == end["id"]
    assert begin["ts"] <= calls[0]["ts"]
    assert end["ts"] >= calls[-1]["ts"]


def test_a_worker_that_is_lost_and_its_successor(tmp_path):
    path = tmp_path / "trace.json"

    def work(number, mark):
        import os

        if number == 5 and not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), 9)
        return number

    with farexec.Group(["popen//id=first"], trace=path) as group:
        assert list(group.map(work, range(10), [str(tmp_path / "mark")] * 10, prefetch=1)) == list(range(10))
    events = events_of(path)
    tracks = tracks_of(events)
    assert len(tracks) == 2
    [restart] = named(events, "restart")
    assert restart["args"]["of"] == "first"
    assert "SIGKILL" in restart["args"]["reason"]
    assert restart["pid"] != tracks["first"]
    ends = named(events, "end")
    assert [event["pid"] for event in ends] == [tracks["first"], restart["pid"]]
    assert "SIGKILL" in ends[0]["args"]["reason"]
    first = [event for event in spans(events, "map") if event["pid"] == tracks["first"]]
    assert [(event["args"]["item"], event["args"]["outcome"]) for event in first] == [
        *[(number, "result") for number in range(5)],
        (5, "none"),
    ]
    rest = [event["args"]["item"] for event in spans(events, "map") if event["pid"] == restart["pid"]]
    assert rest == list(range(5, 10))
    check_no_overlap(events)


PROGRAM = """
import os, sys
import farexec

def work(number):
    return number, __import__("os").environ.get("FAREXEC_TRACE")

with farexec.Group(["popen"] * 2) as group:
    for number, variable in group.map(work, iter(int, 1)):
        assert variable is None
        os.write(1, b".")
"""


def test_a_program_that_is_killed_leaves_a_whole_trace(tmp_path):
    path, program = tmp_path / "trace.json", tmp_path / "program.py"
    program.write_text(PROGRAM)
    for bytes_read in (1, 3_000):
        running = subprocess.Popen(
            [sys.executable, str(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "FAREXEC_TRACE": str(path)}
        )
        assert len(running.stdout.read(bytes_read)) == bytes_read
        running.send_signal(signal.SIGKILL)
        running.communicate()
        events = events_of(path)
        assert sorted(tracks_of(events)) == ["gw0", "gw1"]
        assert len(spans(events, "map")) >= bytes_read
        check_no_overlap(events)


@pytest.mark.parametrize(("name", "error"), [("no/trace.json", FileNotFoundError), (".", OSError)])
def test_a_file_that_cannot_be_written_is_an_error_at_the_beginning(tmp_path, name, error, monkeypatch):
    path = tmp_path / name
    with pytest.raises(error, match=rf"the trace cannot be written to `{path}"):
        farexec.Group(trace=path)
    monkeypatch.setenv("FAREXEC_TRACE", str(path))
    with pytest.raises(farexec.StartError, match=rf"FAREXEC_TRACE asks for a trace: the trace cannot be written to `{path}"):
        farexec.Group(["popen"])


def test_two_groups_do_not_write_one_file(tmp_path):
    with farexec.Group(trace=tmp_path / "trace.json"):
        with pytest.raises(OSError, match="another group of this one"):
            farexec.Group(trace=tmp_path / "trace.json")
        farexec.Group(trace=tmp_path / "other.json").terminate()


FULL = """
import logging, resource, sys
import farexec

logging.basicConfig()

def double(x):
    return 2 * x

with farexec.Group(["popen"], trace=sys.argv[1]) as group:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, resource.RLIM_INFINITY))
    assert list(group.map(double, range(100))) == [2 * x for x in range(100)]
"""


def test_a_file_that_fills_up_harms_nothing(tmp_path):
    path, program = tmp_path / "trace.json", tmp_path / "program.py"
    program.write_text(FULL)
    ran = subprocess.run([sys.executable, str(program), str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    [line] = ran.stderr.splitlines()
    assert line.startswith("WARNING:farexec:the trace could not be written any more: what follows is not in it (path: ")
    assert 1_000 < path.stat().st_size <= 2_000
    # Nothing of the event that did not fit is there.
    assert spans(events_of(path), "map")


def test_a_fork_writes_nothing(tmp_path):
    path = tmp_path / "trace.json"
    with farexec.Group(["popen"], trace=path) as group:
        channel = group[0].remote_exec("channel.receive()")
        before = path.read_text()
        child = os.fork()
        if child == 0:
            try:
                del channel
                group.terminate(timeout=0)
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert path.read_text() == before
        channel.send(None)
        channel.waitclose()
    assert [event["ph"] for event in events_of(path) if event.get("cat") == "execution"] == ["b", "e"]


def test_the_command_has_one_as_well(tmp_path):
    path = tmp_path / "trace.json"
    environment = shell.environment(FAREXEC_TRACE=str(path))
    command = [shell.COMMAND, "map", "math:sqrt", "popen*2"]
    ran = subprocess.run(command, input="4\n9\n", env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (0, "2.0\n3.0\n"), ran.stderr
    assert sorted(event["name"] for event in spans(events_of(path), "map")) == ["item 0", "item 1"]


def test_groups_of_asyncio_have_one_as_well(tmp_path):
    path = tmp_path / "trace.json"

    async def main():
        async with aio.Group(["popen"], trace=path) as group:
            assert [result async for result in group.map("math:sqrt", [4, 9])] == [2, 3]

    asyncio.run(main())
    assert [event["name"] for event in spans(events_of(path), "map")] == ["item 0", "item 1"]
