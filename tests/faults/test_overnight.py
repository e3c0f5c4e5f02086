"""Ten thousand tasks on six workers, of which one is killed every fifth of a second, by a program that is killed twice itself and
started again: the last run has ten thousand results, each once, and what an earlier one had been given is not executed again."""

import json
import os
import random
import signal
import subprocess
import sys
import threading

import pytest

from processes import wait_until_gone

ITEMS = 10_000
EVERY = 0.2

PROGRAM = """
import json, os, sys
import farexec

def work(number):
    # One write for each execution, which no kill cuts in two.
    import os, time
    line = b"%d %d\\n" % (number, os.getpid())
    file = os.open(os.environ["EXECUTED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line)
    os.close(file)
    time.sleep(0.006)
    return [number, number * number]

specs, items, journal = json.loads(sys.argv[1]), range(int(sys.argv[2])), sys.argv[3]
with farexec.Group(specs) as group:
    results = group.map(work, items, ordered=False, retries=20, journal=journal)
    for number, square in results:
        assert square == number * number
        os.write(1, b"%d\\n" % number)
"""


class Executed:
    """What the workers of one run wrote down: the number of a task, and the worker's process."""

    def __init__(self, path):
        self.path = path

    def lines(self):
        text = self.path.read_text() if self.path.exists() else ""
        return [tuple(map(int, line.split())) for line in text.splitlines()]

    def numbers(self):
        return {number for number, _ in self.lines()}

    def pids(self):
        return {pid for _, pid in self.lines()}


class Killer(threading.Thread):
    """Kills one of the workers that were at work last, again and again."""

    def __init__(self, executed, chance):
        super().__init__()
        self.executed, self.chance = executed, chance
        self.enough = threading.Event()
        self.kills = 0

    def run(self):
        while not self.enough.wait(EVERY):
            recent = sorted({pid for _, pid in self.executed.lines()[-12:]})
            if recent:
                try:
                    os.kill(self.chance.choice(recent), signal.SIGKILL)
                    self.kills += 1
                except ProcessLookupError:
                    pass


def one_run(folder, turn, specs, chance, most):
    """Runs the program, and kills it when it has told so many results. Returns these, what was executed, and how many workers were
    killed."""
    executed = Executed(folder / f"executed-{turn}")
    program = folder / "program.py"
    program.write_text(PROGRAM)
    specs = [f"{spec}//env:EXECUTED={executed.path}" for spec in specs]
    command = [sys.executable, str(program), json.dumps(specs), str(ITEMS), str(folder / "journal")]
    killer = Killer(executed, chance)
    errors = folder / f"errors-{turn}"
    with errors.open("wb") as stream, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stream, text=True) as process:
        killer.start()
        try:
            lines = [line for line, _ in zip(process.stdout, range(most), strict=False)]
            if len(lines) == most < ITEMS:
                process.kill()
            lines += process.communicate(timeout=100)[0].splitlines(keepends=True)
        finally:
            process.kill()
            killer.enough.set()
            killer.join()
    wait_until_gone(*executed.pids(), seconds=20)
    # A line that was cut off is no result that anybody had.
    results = [int(line) for line in lines if line.endswith("\n")]
    return process.returncode, results, executed.numbers(), killer.kills, errors.read_text()


@pytest.mark.parametrize("place", ["here", "over ssh"])
def test_nothing_is_missing_in_the_morning(tmp_path, place, pytestconfig, told, request):
    chance = random.Random(pytestconfig.getoption("--seed"))
    specs = ["popen"] * 6
    if place == "over ssh":
        sshd = request.getfixturevalue("sshd")
        specs = [f"ssh=-F {sshd.config} farexec-host//python={sys.executable}"] * 6
    had, kills = set(), 0
    for turn, most in enumerate([2500, 6000]):
        status, results, executed, killed, errors = one_run(tmp_path, turn, specs, chance, most)
        assert status == -signal.SIGKILL, errors
        assert len(results) == len(set(results))
        assert not had & executed
        had |= set(results)
        kills += killed
    status, results, executed, killed, errors = one_run(tmp_path, "last", specs, chance, ITEMS)
    kills += killed
    told(f"overnight, {place}: {kills} workers killed")
    assert status == 0, errors
    assert sorted(results) == list(range(ITEMS))
    assert not had & executed
    assert kills > 10
