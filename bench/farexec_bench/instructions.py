"""Counts instructions and compares them with a baseline that is kept in the repository: what timings of a busy machine cannot settle.

Each workload runs twice under valgrind's callgrind, once so many times and once twice as many; the difference, divided, is what one
costs, and everything that happens once cancels out. Only the process that does the work is counted: of a gateway, the coordinator.

A count of another compiler, interpreter or kind of machine than the baseline's is shown beside it, and cannot fail.

Exit status: 0, nothing is worse than the baseline by more than its tolerance; 1, something is, or failed; 2, wrong arguments. Without
valgrind nothing is counted, which is a failure only where FAREXEC_SERVERS=all says that everything is installed.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .machine import ROOT

BASELINE = ROOT / "bench" / "instructions.json"

LIMIT = 300
"""Seconds that one run of a workload may take."""


class Failed(Exception):
    """A workload could not be built or run."""


@dataclass(frozen=True)
class Workload:
    """What is counted."""

    name: str  # the part before the first dash says which program does it: `rust` or `python`
    what: str
    count: int  # how often it is done in the first run; in the second it is twice that
    per: int = 1  # items in each
    tolerance: float = 10.0  # per cent that it may be worse
    runs: int = 1  # how often it is counted; the least counts

    @property
    def program(self) -> str:
        """The program that does it."""
        return self.name.partition("-")[0]


# What two processes do together is not the same twice: how much a read gives, and whether it is waited for.
WORKLOADS = (
    Workload("rust-message-ints", "an int of a list, message encoding, there and back", 20, 1000),
    Workload("rust-message-record", "a record as a `Value`, message encoding, there and back", 500),
    Workload("rust-dump-ints", "an int of a list, dump format, there and back", 20, 1000),
    Workload("rust-dump-record", "a record as a `Value`, dump format, there and back", 500),
    Workload("rust-serde-record", "a record as a struct, there and back", 500),
    Workload("rust-frames", "a frame cut from a stream", 20, 1000),
    Workload("rust-session", "an item cut from a stream and received by a session", 20, 1000),
    Workload("python-dumps-ints", "`dumps` of an int of a list", 50, 1000),
    Workload("python-loads-ints", "`loads` of an int of a list", 50, 1000),
    Workload("python-dumps-records", "`dumps` of a record", 50, 100),
    Workload("python-loads-records", "`loads` of a record", 50, 100),
    Workload("python-round-trip", "an int to a worker and back", 500, tolerance=20, runs=3),
    Workload("python-round-trip-records", "a record of a list to a worker and back", 50, 100),
    Workload("python-ints-out", "an int sent to a worker", 10_000, runs=3),
    Workload("python-ints-in", "an int received from a worker", 10_000, tolerance=20, runs=3),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Counts, prints the table, and compares or writes the baseline."""
    given = make_parser().parse_args(arguments)
    chosen = [one for one in WORKLOADS if any(fnmatch.fnmatchcase(one.name, name) for name in given.only.split(","))]
    if not chosen:
        print(f"no workload is called {given.only!r}: {', '.join(one.name for one in WORKLOADS)}", file=sys.stderr)
        return 2
    if shutil.which("valgrind") is None:
        print("valgrind is not installed: nothing is counted", file=sys.stderr)
        return 1 if os.environ.get("FAREXEC_SERVERS") == "all" else 0
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else {"counted": {}, "with": {}}
    tools = versions()
    try:
        counted = count_all(chosen)
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    worse = report(chosen, counted, baseline, tools, given.tolerance)
    if given.update:
        kept = {**baseline["counted"], **counted}
        ordered = {one.name: kept[one.name] for one in WORKLOADS if one.name in kept}
        BASELINE.write_text(json.dumps({"with": {**baseline["with"], **tools}, "counted": ordered}, indent=1) + "\n")
        return 0
    if worse:
        print(f"worse than {BASELINE.relative_to(ROOT)} says: {', '.join(worse)}", file=sys.stderr)
    return 1 if worse else 0


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="bench/instructions.py",
        description="Counts instructions with valgrind and compares them with bench/instructions.json.",
        epilog=(__doc__ or "").rpartition("\n\n")[2],
    )
    parser.add_argument("--only", metavar="PATTERN", default="*", help="only these workloads: names with * and ?, separated by commas")
    parser.add_argument("--update", action="store_true", help="write what was counted to the baseline")
    parser.add_argument("--tolerance", type=float, metavar="PERCENT", help="how much worse is too much (default: what each workload says)")
    return parser


def count_all(chosen: Iterable[Workload]) -> dict[str, float]:
    """Instructions for one item of each workload."""
    counted = {}
    programs: dict[str, list[str]] = {}
    for workload in chosen:
        if workload.program not in programs:
            programs[workload.program] = rust_program() if workload.program == "rust" else python_program()
        command = [*programs[workload.program], workload.name.partition("-")[2]]
        counts = [workload.count * times for times in (1, 2)]
        once, twice = (min(instructions([*command, str(count)]) for _ in range(workload.runs)) for count in counts)
        counted[workload.name] = round((twice - once) / workload.count / workload.per, 1)
    return counted


def rust_program() -> list[str]:
    """Builds the Rust program, optimized as a release is."""
    command = ["cargo", "bench", "--quiet", "-p", "farexec-proto", "--bench", "workloads", "--no-run", "--message-format", "json"]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "workloads":
            return [message["executable"]]
    raise Failed(f"`{' '.join(command)}` built no program")


def python_program() -> list[str]:
    """The interpreter behind whatever starts it, and the script."""
    return [sys.executable, str(Path(__file__).with_name("workloads.py"))]


def instructions(command: list[str]) -> int:
    """The instructions that a command takes, those of its children not among them."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        options = ["--tool=callgrind", "--trace-children=no", f"--callgrind-out-file={folder}/out", f"--log-file={log}"]
        # A hash seed of its own for each run would have dicts collide differently.
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        try:
            done = subprocess.run(["valgrind", *options, *command], env=environment, timeout=LIMIT, check=False)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"`{' '.join(command)}` took more than {LIMIT} seconds") from error
        found = re.search(r"Collected : (\d+)", log.read_text())
        if done.returncode != 0 or found is None:
            raise Failed(f"`{' '.join(command)}` failed under valgrind, with exit status {done.returncode}")
        return int(found[1])


def versions() -> dict[str, str]:
    """What the counts depend on besides the code."""
    rust = subprocess.run(["rustc", "--version"], stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT).stdout.split()
    return {
        "rust": rust[1] if len(rust) > 1 else "unknown",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": platform.machine(),
    }


def report(
    chosen: Sequence[Workload],
    counted: dict[str, float],
    baseline: dict[str, Any],
    tools: dict[str, str],
    tolerance: float | None,
) -> list[str]:
    """Prints the table. Returns the names of the workloads that are worse than they may be."""
    worse = []
    width = max(len(one.name) for one in chosen)
    print(f"{'workload':<{width}}  {'counted':>9}  {'baseline':>9}  {'change':>7}")
    for one in chosen:
        now, before = counted[one.name], baseline["counted"].get(one.name)
        line = f"{one.name:<{width}}  {now:>9,.1f}  "
        if before is None:
            print(f"{line}{'none':>9}  {'':>7}  {one.what}")
            continue
        change = (now / before - 1) * 100
        same_tools = all(baseline["with"].get(tool) == tools[tool] for tool in (one.program, "machine"))
        allowed = one.tolerance if tolerance is None else tolerance
        verdict = ""
        if change > allowed:
            verdict = f"  MORE THAN {allowed:g} % WORSE"
            if same_tools:
                worse.append(one.name)
            else:
                verdict += f", but the baseline is of {baseline['with'].get(one.program)} on {baseline['with'].get('machine')}"
        print(f"{line}{before:>9,.1f}  {change:>+6.1f}%  {one.what}{verdict}")
    return worse
