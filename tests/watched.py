"""A program whose workers are watched, for the tests of `farexec top`: `farexec map`, with items that take until a test lets them end."""

import json
import pathlib
import subprocess
import time

import shell

CODE = """
import os
import sys
import time


def hold(gate):
    while not os.path.exists(gate):
        time.sleep(0.02)
    with open(gate) as lines:
        words = lines.read()
    if words.startswith("die: "):
        os.unlink(gate)  # the worker that replaces this one waits for it anew
        sys.stderr.write(words)
        sys.stderr.flush()
        os._exit(3)
    if words:
        raise ValueError(words)
    return os.environ.get("FAREXEC_MONITOR")
"""


class Watched:
    """`farexec map` with workers that have two items each, of which one is sent at a time."""

    def __init__(self, folder: pathlib.Path, here: str, workers: int = 2, **variables: str) -> None:
        self.runtime = str(folder)
        self.workers = workers
        self.gates = [folder / f"gate{number}" for number in range(2 * workers)]
        (folder / "hold.py").write_text(CODE)
        self.process = subprocess.Popen(
            [shell.COMMAND, "map", f"{folder}/hold.py:hold", f"{here}*{workers}", "--prefetch=1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=shell.environment(XDG_RUNTIME_DIR=self.runtime, **{"FAREXEC_MONITOR": "1", **variables}),
        )
        assert self.process.stdin is not None
        for gate in self.gates:
            self.process.stdin.write(json.dumps(str(gate)) + "\n")
        self.process.stdin.close()

    def top(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return shell.run("top", *arguments, XDG_RUNTIME_DIR=self.runtime)

    def wait_for_work(self, *arguments: str) -> dict:
        """Waits until each worker is at an item; returns what is told then."""
        deadline = time.monotonic() + 30
        while True:
            result = self.top("--once", "--json", *arguments)
            if result.returncode == 0:
                told = json.loads(result.stdout)
                if [gateway.get("tasks", 0) > 0 for group in told["groups"] for gateway in group["gateways"]] == [True] * self.workers:
                    return told
            assert time.monotonic() < deadline, result

    def let_end(self, number: int, words: str = "") -> None:
        """Lets an item end: with these words it raises; if they begin with `die: `, its worker writes them to standard error and ends."""
        gate = self.gates[number]
        being_written = gate.with_suffix(".new")
        being_written.write_text(words)
        being_written.rename(gate)

    def finish(self, code: int = 0) -> list:
        """Lets the items end, and the program with this exit code; returns the results."""
        for gate in self.gates:
            gate.touch()
        assert self.process.stdout is not None
        results = [json.loads(line) for line in self.process.stdout]
        assert self.process.wait(30) == code
        return results

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
