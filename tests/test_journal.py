"""The journal of a map: whatever happens to the program, each result is there, and nothing that was kept is executed again."""

import os
import random
import signal
import struct
import subprocess
import sys
import zlib

import pytest

import farexec

ITEMS = 1000

PROGRAM = f"""
import os, sys
import farexec

def work(number):
    # One write for each execution, which no kill cuts in two.
    import os, time
    file = os.open(os.environ["EXECUTED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, ("%d\\n" % number).encode())
    os.close(file)
    time.sleep(number % 7 / 2000)
    return "x" * (number % 50), number

with farexec.Group(["popen"] * 3) as group:
    for text, number in group.map(work, range({ITEMS}), ordered=sys.argv[2] == "ordered", journal=sys.argv[1]):
        os.write(1, b"%d %d\\n" % (number, len(text)))
"""


def kept(path):
    """The positions of the items whose results are in a journal, by what docs/JOURNAL.md says of it."""
    data = path.read_bytes() if path.exists() else b""
    assert b"FAREXEC JOURNAL 1\n".startswith(data[:18])
    place, number, positions = 18, bytes(16), []
    while data[place : place + 4] == b"\xf7\xferj":
        length, checksum = struct.unpack_from("<II", data, place + 4)
        body = data[place + 12 : place + 12 + length]
        if zlib.crc32(number + struct.pack("<Q", place) + body) != checksum:
            break
        if number == bytes(16):
            number = body[:16]
        else:
            positions.append(struct.unpack_from("<Q", body)[0])
        place += 12 + length
    assert len(positions) == len(set(positions))
    return set(positions)


def written(folder, code):
    """The path of a program; functions in it have a text that can be sent."""
    path = folder / "program.py"
    path.write_text(code)
    return str(path)


def run(tmp_path, turn, order, killed_after=None):
    """One run of the program, killed after so many results if it says so. Returns its status, and what it got and had executed."""
    executed = tmp_path / f"executed-{turn}"
    command = [sys.executable, written(tmp_path, PROGRAM), str(tmp_path / "journal"), order]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "EXECUTED": str(executed)}) as program:
        lines = [line for line, _ in zip(program.stdout, range(ITEMS if killed_after is None else killed_after), strict=False)]
        if killed_after is not None:
            os.kill(program.pid, signal.SIGKILL)
        lines += program.communicate()[0].splitlines(keepends=True)
    # A line that was cut off is no result that anybody had.
    results = [tuple(map(int, line.split())) for line in lines if line.endswith("\n")]
    assert all(length == number % 50 for number, length in results)
    numbers = executed.read_text().split() if executed.exists() else []
    return program.returncode, [number for number, _ in results], [int(number) for number in numbers]


@pytest.mark.local("the program that is killed makes its workers itself")
@pytest.mark.parametrize("order", ["ordered", "as they come"])
def test_killed_at_any_moment_it_goes_on_with_what_is_missing(tmp_path, order):
    dice = random.Random(f"journal {order}")
    known = set()
    for turn in range(8):
        status, results, executed = run(tmp_path, turn, order, len(known) + dice.randrange(40) if turn else 0)
        assert status == -signal.SIGKILL
        assert not known.intersection(executed) and len(executed) == len(set(executed))
        now = kept(tmp_path / "journal")
        assert known <= now and set(results) <= now
        known = now
    assert known
    status, results, executed = run(tmp_path, "last", order)
    assert status == 0
    assert sorted(results) == list(range(ITEMS)) and (order != "ordered" or results == sorted(results))
    assert sorted(executed) == sorted(set(range(ITEMS)) - known)
    _, results, executed = run(tmp_path, "again", order)
    assert sorted(results) == list(range(ITEMS)) and executed == []


def inverse(number):
    return 1 / number


def test_what_failed_is_tried_again(group, tmp_path):
    group.makegateway()
    path = tmp_path / "journal"
    with pytest.raises(farexec.RemoteError, match="division by zero"):
        list(group.map(inverse, [1, 0, 2], journal=path))
    results = group.map(inverse, [1, 0, 2, 4], journal=path, on_error="return")
    assert [result for result in results if isinstance(result, float)] == [1, 0.5, 0.25]
    assert kept(path) == {0, 2, 3}
    assert (results.progress.done, results.progress.failed) == (3, 1)


def test_another_run_is_refused(group, tmp_path):
    group.makegateway()
    path = tmp_path / "journal"
    results = group.map("math:sqrt", [4, 9], journal=path)
    assert next(results) == 2
    with pytest.raises(farexec.JournalError, match="in use by another run"):
        group.map("math:sqrt", [4, 9], journal=path)
    assert next(results) == 3
    del results
    before = path.read_bytes()
    with pytest.raises(farexec.JournalError, match="begun with math:sqrt, and this is math:floor"):
        group.map("math:floor", [4, 9], journal=path)
    with pytest.raises(farexec.JournalError, match="item 1, which was another one"):
        list(group.map("math:sqrt", [4, 16], journal=path))
    path.write_text("a letter")
    with pytest.raises(farexec.JournalError, match="no journal, and is left as it is"):
        group.map("math:sqrt", [4, 9], journal=path)
    assert path.read_text() == "a letter"
    path.write_bytes(before)
    assert list(group.map("math:sqrt", [4, 9], journal=path)) == [2, 3]


def test_any_item_is_known_again(group, tmp_path):
    """Sets of strings come in another order in every interpreter, so that a set was another item in the next run."""
    code = """
import farexec, sys

items = [{"alpha", "beta", "gamma"}, [frozenset(["x", "y", "z"]), 1j], {"k": [1.5, None, True, b"\\0", 2**80]}]
with farexec.Group(["popen"]) as group:
    results = group.map(repr, items, journal=sys.argv[1])
    print(results.progress.done, len(list(results)), sum(worker.done for worker in results.progress.workers))
"""
    outputs = [
        subprocess.run(
            [sys.executable, written(tmp_path, code), str(tmp_path / "journal")],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        for seed in ("1", "2", "3")
    ]
    assert outputs == [["0", "3", "3"], ["0", "3", "0"], ["0", "3", "0"]]


def test_a_full_disk_loses_nothing(tmp_path):
    """The limit on the size of files stands for the disk."""
    code = """
import farexec, resource, signal, sys

def text(number):
    return "x" * 1000

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with farexec.Group(["popen"]) as group:
    results = group.map(text, range(50), journal=sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
    got = 0
    try:
        for _ in results:
            got += 1
    except farexec.JournalError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(got, got + len(list(results)))
"""
    path = tmp_path / "journal"
    out = subprocess.run([sys.executable, written(tmp_path, code), str(path)], check=True, capture_output=True, text=True).stdout
    error, counts = out.splitlines()
    assert str(path) in error and "File too large" in error
    got, whole = map(int, counts.split())
    assert got < 10 and whole == 50 and kept(path) == set(range(50))
