"""What a case has at hand, and the command line by which a process is told to run one.

The neighbours are the modules of `cases`, whose functions register themselves here by :func:`case`. Every
figure is a *cost*: seconds for one operation, bytes, threads; less is better. A program that is no Python
takes the same arguments and prints the same JSON as its last line::

    {"figures": {"seconds": [0.0301, 0.0297]}, "facts": {"worker": "native"}, "unavailable": null}
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

Figures = dict[str, list[float]]

END_TIMEOUT = 10.0
"""Seconds that the workers of a case have to end before they are killed."""

NOT_YET = "does not have that yet"
"""What the error of a library says that is asked for a part which is not built."""

clock = time.perf_counter


class Unavailable(Exception):
    """The contender cannot do this here; the text says what is missing. This is no error."""


@dataclass
class Run:
    """What one process is to measure, and what it notes by the way."""

    library: str
    spec: str
    size: int
    samples: int
    options: frozenset[str] = frozenset()
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def module(self) -> Any:
        """The library under test: execnet, or another with its names."""
        return importlib.import_module(self.library)

    @contextmanager
    def group(self, count: int = 1) -> Iterator[Any]:
        """A group of gateways that is terminated at the end."""
        group = self.module.Group([self.spec] * count)
        try:
            yield group
            self.note_worker(group[0])
        finally:
            group.terminate(timeout=END_TIMEOUT)

    def note_worker(self, gateway: Any) -> None:
        """Notes which worker the far end really is, for a contender can ask for one and be given another."""
        if self.library == "farexec":
            self.facts["worker"] = str(gateway._rinfo().worker)

    def sample(self, operation: Callable[[], object], per: float = 1) -> Figures:
        """Times `operation`, which does `per` things, once to warm up and then `samples` times."""
        operation()
        seconds = []
        for _ in range(self.samples):
            start = clock()
            operation()
            seconds.append((clock() - start) / per)
        return {"seconds": seconds}

    async def sample_awaited(self, operation: Callable[[], Awaitable[object]], per: float = 1) -> Figures:
        """The same as :meth:`sample` for what is awaited."""
        await operation()
        seconds = []
        for _ in range(self.samples):
            start = clock()
            await operation()
            seconds.append((clock() - start) / per)
        return {"seconds": seconds}


Case = Callable[[Run], Figures]

_cases: dict[tuple[str, str], Case] = {}

LIBRARIES = ("execnet", "farexec")
"""The libraries with execnet's names, which share the code of a case."""


def case(name: str, *libraries: str) -> Callable[[Case], Case]:
    """Registers a function as the case `name` of `libraries`; of :data:`LIBRARIES` if none are given."""

    def register(function: Case) -> Case:
        for library in libraries or LIBRARIES:
            _cases[name, library] = function
        return function

    return register


def cases() -> dict[tuple[str, str], Case]:
    """All cases, by their name and library."""
    importlib.import_module("farexec_bench.cases")
    return _cases


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the case that the command line names, and prints its figures."""
    parser = argparse.ArgumentParser(
        description="Run one case of the benchmarks and print its figures as JSON."
    )
    parser.add_argument("case")
    parser.add_argument("--library", required=True, help="execnet, farexec or a rival's name")
    parser.add_argument("--spec", default="popen", help="where the workers run")
    parser.add_argument("--size", type=int, default=1, help="how much one sample does")
    parser.add_argument("--samples", type=int, default=3, help="how often it is done")
    parser.add_argument("--option", action="append", default=[], help="a variant of the case")
    given = parser.parse_args(arguments)
    function = cases().get((given.case, given.library))
    if function is None:
        parser.error(f"there is no case {given.case!r} for {given.library!r}")
    run = Run(given.library, given.spec, given.size, given.samples, frozenset(given.option))
    run.facts["python"] = platform.python_version()
    unavailable = None
    figures: Figures = {}
    try:
        figures = function(run)
    except Unavailable as reason:
        unavailable = str(reason)
    except ValueError as error:
        if NOT_YET not in str(error):
            raise
        unavailable = str(error)
    sys.stdout.flush()
    print("\n" + json.dumps({"figures": figures, "facts": run.facts, "unavailable": unavailable}), flush=True)
    return 0
