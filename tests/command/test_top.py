"""`farexec top`: what it shows of a program that runs, at a terminal and in a pipe, and what it says where there is none."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import time

import pyte
import pytest

import shell

CODE = """
import os


def hold(item):
    import time

    while not os.path.exists(item["until"]):
        time.sleep(0.02)
    return os.environ.get("FAREXEC_MONITOR")
"""


class Watched:
    """A program that is watched: `farexec map` with two workers, whose items take until `finish`."""

    def __init__(self, folder, here, **variables):
        self.runtime = str(folder)
        self.gate = folder / "gate"
        (folder / "hold.py").write_text(CODE)
        self.process = subprocess.Popen(
            [shell.COMMAND, "map", f"{folder}/hold.py:hold", f"{here}*2", "--prefetch=1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=shell.environment(XDG_RUNTIME_DIR=self.runtime, **{"FAREXEC_MONITOR": "1", **variables}),
        )
        for _ in range(4):
            self.process.stdin.write(json.dumps({"until": str(self.gate)}) + "\n")
        self.process.stdin.close()

    def top(self, *arguments):
        return shell.run("top", *arguments, XDG_RUNTIME_DIR=self.runtime)

    def wait_for_work(self, *arguments):
        """Waits until each worker is at an item; returns what is told then."""
        deadline = time.monotonic() + 30
        while True:
            result = self.top("--once", "--json", *arguments)
            if result.returncode == 0:
                told = json.loads(result.stdout)
                if sorted(gateway.get("tasks", 0) > 0 for group in told["groups"] for gateway in group["gateways"]) == [True, True]:
                    return told
            assert time.monotonic() < deadline, result

    def finish(self):
        """Lets the items end; returns the results."""
        self.gate.touch()
        results = [json.loads(line) for line in self.process.stdout]
        assert self.process.wait(30) == 0
        return results


@pytest.fixture
def watch(tmp_path, here):
    """Starts a program that is watched, or several."""
    started = []

    def start(here=here, **variables):
        started.append(Watched(tmp_path, here, **variables))
        return started[-1]

    yield start
    for program in started:
        program.process.kill()
        program.process.wait()
        program.process.stdout.close()


def test_what_is_told_is_true(watch):
    program = watch()
    told = program.wait_for_work()
    assert told["pid"] == program.process.pid and " map " in told["command"]
    (group,) = told["groups"]
    assert (group["restarts"], group["last_error"]) == (0, None)
    first, second = group["gateways"]
    assert (first["id"], second["id"]) == ("gw0", "gw1")
    for gateway in (first, second):
        assert gateway["state"] == "running" and gateway["reason"] is None
        assert (gateway["channels"], gateway["tasks"], gateway["done"], gateway["failed"]) == (1, 1, 0, 0)
        assert (gateway["items_sent"], gateway["items_received"], gateway["queued_bytes"]) == (1, 0, 0)
        assert gateway["bytes_sent"] > 0 and gateway["bytes_received"] > 0
        os.kill(gateway["pid"], 0)
    # Whoever is watched, its workers are not: they have nothing of it in their environment.
    assert program.finish() == [None] * 4


def test_a_worker_that_died_and_was_replaced(watch):
    program = watch()
    before = program.wait_for_work()
    victim = before["groups"][0]["gateways"][0]
    os.kill(victim["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 30
    while True:
        (group,) = program.wait_for_work()["groups"]
        if victim["pid"] not in [gateway["pid"] for gateway in group["gateways"]]:
            break
        assert time.monotonic() < deadline, group
    assert group["restarts"] == 1
    assert group["last_error"].startswith(f"worker {victim['id']} (pid {victim['pid']}) was ended by signal 9 (SIGKILL)")


def test_a_worker_behind_a_command_does_not_get_it(watch, here):
    program = watch(here=here.replace("popen//", "command=env//"))
    program.wait_for_work()
    assert program.finish() == [None] * 4


def test_the_socket_is_its_owners_and_goes_with_the_program(watch, tmp_path):
    program = watch()
    program.wait_for_work()
    path = tmp_path / "farexec" / f"{program.process.pid}.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    program.finish()
    assert not path.exists()


def test_a_directory_that_others_may_use_is_refused(tmp_path):
    (tmp_path / "farexec").mkdir(mode=0o755)
    result = shell.run("top", XDG_RUNTIME_DIR=str(tmp_path))
    assert result.returncode == 1 and "is not a directory that only its owner may use" in result.stderr


def test_what_a_killed_program_left_is_removed(watch, tmp_path):
    program = watch()
    program.wait_for_work()
    program.process.kill()
    program.process.wait()
    path = tmp_path / "farexec" / f"{program.process.pid}.sock"
    assert path.exists()
    assert program.top().returncode == 2
    assert not path.exists()


def test_a_path_of_ones_own(watch, tmp_path):
    path = tmp_path / "mine.sock"
    program = watch(FAREXEC_MONITOR=str(path))
    assert program.wait_for_work("--socket", str(path))["pid"] == program.process.pid
    program.finish()
    assert not path.exists()


def test_a_file_in_the_way_is_left_alone_and_the_program_runs(watch, tmp_path):
    path = tmp_path / "mine.sock"
    path.write_text("precious")
    assert watch(FAREXEC_MONITOR=str(path)).finish() == [None] * 4
    assert path.read_text() == "precious"


def test_without_a_program(tmp_path):
    result = shell.run("top", XDG_RUNTIME_DIR=str(tmp_path))
    assert result.returncode == 2 and "there is no program to look at: start one with FAREXEC_MONITOR=1" in result.stderr
    result = shell.run("top", "1", XDG_RUNTIME_DIR=str(tmp_path))
    assert result.returncode == 2 and "process 1 tells nothing" in result.stderr
    result = shell.run("top", "--socket", str(tmp_path / "none"))
    assert result.returncode == 4 and "does not answer" in result.stderr


def test_of_several_programs_one_is_to_be_named(watch):
    programs = [watch(), watch()]
    for program in programs:
        program.wait_for_work(str(program.process.pid))
    result = programs[0].top()
    assert result.returncode == 2 and "there are several programs" in result.stderr
    for program in programs:
        # The console script of the Python package is run by an interpreter.
        assert re.search(rf"\n  {program.process.pid}  (\S+ )?{re.escape(shell.COMMAND)} map ", result.stderr)


def test_once_is_a_table(watch):
    program = watch()
    told = program.wait_for_work()
    result = program.top("--once")
    assert result.returncode == 0
    head, *rows = (line.split() for line in result.stdout.splitlines())
    assert head == ["gateway", "state", "pid", "channels", "tasks", "done", "queued", "items/s", "bytes/s", "why", "it", "ended"]
    pids = [str(gateway["pid"]) for gateway in told["groups"][0]["gateways"]]
    assert [row[:6] for row in rows] == [[f"gw{i}", "running", pids[i], "1", "1", "0"] for i in (0, 1)]


def test_in_a_pipe_lines_come_until_the_program_ends(watch):
    program = watch()
    told = program.wait_for_work()
    command = [shell.COMMAND, "top", "--interval=0.05"]
    top = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=shell.environment(XDG_RUNTIME_DIR=program.runtime))
    with top:
        for _ in range(3):
            line = json.loads(top.stdout.readline())
            assert line["pid"] == told["pid"] and line["seconds"] > told["seconds"]
        program.finish()
        for rest in top.stdout:
            json.loads(rest)
        assert top.wait(30) == 0


class Screen(shell.Terminal):
    """`farexec top` at a terminal of 24 lines, of which only what is seen in the end counts, not what was written to get there."""

    def __init__(self, program, *arguments):
        super().__init__("top", *arguments, XDG_RUNTIME_DIR=program.runtime)
        self.resize(24, 100)

    def display(self):
        screen = pyte.Screen(100, 24)
        pyte.Stream(screen).feed(self.seen)
        return screen.display

    def wait_until_seen(self, text):
        deadline = time.monotonic() + 30
        while not any(text in line for line in self.display()):
            assert self._read(0.05) and time.monotonic() < deadline, self.display()


@pytest.mark.parametrize(("keys", "code"), [(b"q", 0), (shell.CTRL_C, 130)])
def test_the_screen(watch, keys, code):
    program = watch()
    told = program.wait_for_work()
    with Screen(program) as terminal:
        terminal.wait_until_seen("gatewayv")
        terminal.wait_until_seen("gw1 ")
        terminal.press(b"r")
        terminal.wait_until_seen("gateway^")
        display = terminal.display()
        assert display[0].startswith(f"process {program.process.pid} runs: 2 gateways, 0 restarts")
        pids = [str(gateway["pid"]) for gateway in told["groups"][0]["gateways"]]
        assert [line.split()[:3] for line in display[2:4]] == [["gw1", "running", pids[1]], ["gw0", "running", pids[0]]]
        terminal.press(keys)
        assert terminal.wait() == code
        # What was on the terminal before is there again, with its cursor.
        assert "\x1b[?1049l" in terminal.seen and terminal.seen.rindex("\x1b[?25h") > terminal.seen.rindex("\x1b[?25l")
    program.finish()


def test_the_screen_says_that_the_program_has_ended_and_a_signal_ends_it(watch):
    program = watch()
    program.wait_for_work()
    with Screen(program, "--interval=0.05") as terminal:
        terminal.wait_until_seen("gw1 ")
        program.finish()
        terminal.wait_until_seen("has ended")
        os.kill(terminal.pid, signal.SIGTERM)
        assert terminal.wait() == 130
        assert "\x1b[?1049l" in terminal.seen


def test_who_asks_and_reads_nothing_keeps_nobody_from_asking(watch, tmp_path):
    program = watch()
    program.wait_for_work()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(tmp_path / "farexec" / f"{program.process.pid}.sock"))
        assert program.top("--once").returncode == 0


@pytest.mark.parametrize("interval", ["0", "-1", "never", "inf"])
def test_an_interval_that_cannot_be(interval):
    result = shell.run("top", f"--interval={interval}")
    assert result.returncode == 2 and "seconds" in result.stderr
