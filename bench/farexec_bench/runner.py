"""Runs one case in a process of its own, and sees to it that nothing of it stays.

Each process carries a token of its own in its environment, which whatever it starts inherits. By that token,
what a case left behind is found after it and ended, also what moved to another process group or session.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

TOKEN = "FAREXEC_BENCH_TOKEN"

LEAVE_TIME = 3.0
"""Seconds that the workers of a case have to be gone after it ended; then they count as left behind."""

LOOK_INTERVAL = 0.02
"""Seconds between two looks whether they are gone."""

TAIL = 2000
"""Bytes of what a failed case wrote that are looked at for the reason."""


@dataclass
class Outcome:
    """What one run of a case gave: figures; or why not. With figures there can be a problem as well."""

    figures: dict[str, list[float]] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    unavailable: str | None = None
    problem: str | None = None


def run(command: list[str], limit: float, pinned_to: int | None = None) -> Outcome:
    """Runs a case and waits for it, at most `limit` seconds.

    :param pinned_to: The processor that it and all it starts are bound to.
    """
    token = uuid.uuid4().hex
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env={**os.environ, TOKEN: token},
                cwd=tempfile.gettempdir(),
                start_new_session=True,
                preexec_fn=pinning(pinned_to),
            )
        except OSError as error:
            return Outcome(problem=f"could not start: {error}")
        try:
            process.wait(limit)
            left = sweep(token, LEAVE_TIME)
        except subprocess.TimeoutExpired:
            return Outcome(problem=f"killed after {limit:g} s; {last_words(errors)}")
        finally:
            if process.poll() is None:
                end_group(process)
            kill(token)
        outcome = read(process.returncode, output, errors)
        if left and outcome.problem is None:
            outcome.problem = f"left {left} processes behind"
        return outcome


def read(returncode: int, output: IO[bytes], errors: IO[bytes]) -> Outcome:
    """Makes an outcome of what a case printed."""
    if returncode != 0:
        end = f"signal {-returncode}" if returncode < 0 else f"exit status {returncode}"
        return Outcome(problem=f"{end}: {last_words(errors)}")
    output.seek(0)
    lines = output.read().splitlines()
    try:
        told = json.loads(lines[-1])
        figures = {name: [float(cost) for cost in costs] for name, costs in told["figures"].items()}
        return Outcome(figures, dict(told.get("facts") or {}), told.get("unavailable"))
    except (IndexError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Outcome(problem=f"printed no figures ({error!r}); {last_words(errors)}")


def last_words(errors: IO[bytes]) -> str:
    """The last line that a case wrote on standard error."""
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - TAIL))
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "nothing on stderr"


def pinning(processor: int | None) -> Callable[[], None] | None:
    """What binds a process to a processor, before anything starts in it."""
    if processor is None:
        return None
    return lambda: os.sched_setaffinity(0, {processor})


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kills a case with its process group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def sweep(token: str, patience: float) -> int:
    """Waits up to `patience` seconds until no process has the token, and counts those that still do."""
    until = time.monotonic() + patience
    while (found := bearers(token)) and time.monotonic() < until:
        time.sleep(LOOK_INTERVAL)
    return len(found)


def kill(token: str) -> None:
    """Kills all processes that have the token, and those that they start meanwhile."""
    until = time.monotonic() + LEAVE_TIME
    while (found := bearers(token)) and time.monotonic() < until:
        for process in found:
            try:
                os.kill(process, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
        time.sleep(LOOK_INTERVAL)


def bearers(token: str) -> list[int]:
    """The processes with the token in their environment; none where there is no /proc to see them."""
    if not sys.platform.startswith("linux"):
        return []
    wanted = f"{TOKEN}={token}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                if wanted in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                pass
    return found
