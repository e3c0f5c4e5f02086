"""From rows to figures: makes heats of the rows, runs them interleaved, and keeps every sample.

A heat is what rows with the same case, size and pinning share: its contenders take turns (A B C, A B C, ...),
so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import shlex
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import runner
from .contenders import Contender
from .environments import Environments
from .machine import BUILT, processor_to_pin
from .rows import Row
from .runner import Outcome

CASE_LIMIT = 60.0
"""Seconds after which a case is taken to hang, and killed."""

CASE_PROGRAM = Path(__file__).resolve().parents[1] / "case.py"

HeatKey = tuple[str, int, int, bool]


@dataclass
class Heat:
    """Contenders that do the same, in turns, and what came out of each turn."""

    case: str
    size: int
    samples: int
    pinned: bool
    repetitions: int = 0
    outcomes: dict[Contender, list[Outcome]] = field(default_factory=dict)

    def costs(self, contender: Contender, figure: str) -> list[float]:
        """The figure of each repetition that has one: the median of its samples."""
        samples = (outcome.figures.get(figure) for outcome in self.outcomes.get(contender, ()))
        return [statistics.median(costs) for costs in samples if costs]

    def problems(self, contender: Contender) -> list[str]:
        """What went wrong, each thing once."""
        return list(dict.fromkeys(outcome.problem for outcome in self.outcomes[contender] if outcome.problem))

    def remarks(self, contender: Contender) -> list[str]:
        """What is to be known beside the figures, each thing once."""
        found: dict[str, None] = {}
        for outcome in self.outcomes[contender]:
            if outcome.unavailable:
                found[f"not available: {outcome.unavailable}"] = None
            worker = outcome.facts.get("worker")
            if worker and contender.worker and worker != contender.worker:
                found[f"ran on the {worker} worker"] = None
        return list(found)


@dataclass(frozen=True)
class Settings:
    """How it is measured."""

    quick: bool = False
    repetitions: int | None = None
    ours: str = "farexec"
    limit: float = CASE_LIMIT


def heats_of(rows: Sequence[Row], settings: Settings) -> dict[str, Heat]:
    """The heats of all rows, by the rows' names."""
    heats: dict[HeatKey, Heat] = {}
    by_row = {}
    for row in rows:
        size = row.quick_size if settings.quick else row.size
        samples = 1 if settings.quick else row.samples
        key = (row.case or row.name, size, samples, row.pinned)
        heat = heats.setdefault(key, Heat(*key))
        heat.repetitions = max(
            heat.repetitions, settings.repetitions or (1 if settings.quick else row.repetitions)
        )
        for contender in row.contenders:
            heat.outcomes.setdefault(contender, [])
        by_row[row.name] = heat
    return by_row


def measure(heats: Sequence[Heat], environments: Environments, settings: Settings) -> None:
    """Runs all heats; KeyboardInterrupt leaves those that are done with their outcomes."""
    total = sum(heat.repetitions * len(heat.outcomes) for heat in heats)
    progress = Progress(total)
    processor = processor_to_pin()
    try:
        for heat in heats:
            for repetition in range(heat.repetitions):
                for contender, outcomes in heat.outcomes.items():
                    turn = f"{repetition + 1}/{heat.repetitions}"
                    progress.step(f"{heat.case}: {contender.name} ({turn})")
                    if outcomes and (outcomes[0].unavailable or outcomes[0].problem):
                        continue  # a contender that cannot, or hangs, is asked once
                    pinned_to = processor if heat.pinned else None
                    outcomes.append(run_one(heat, contender, environments, settings, pinned_to))
    finally:
        progress.clear()


def run_one(
    heat: Heat, contender: Contender, environments: Environments, settings: Settings, pinned_to: int | None
) -> Outcome:
    """One turn of one contender."""
    library = settings.ours if contender.library == "farexec" else contender.library
    if library in environments.missing:
        return Outcome(unavailable=environments.missing[library])
    if contender.program is None:
        command = [environments.interpreters[contender.environment], str(CASE_PROGRAM)]
    elif (BUILT / contender.program).exists():
        command = [str(BUILT / contender.program)]
    else:
        return Outcome(unavailable=f"{contender.program} is not built")
    plain, own = (shlex.quote(environments.interpreters[name]) for name in ("execnet", "farexec"))
    spec = contender.spec.format(plain=plain, own=own)
    command += [heat.case, "--library", library, "--spec", spec]
    command += ["--size", str(heat.size), "--samples", str(heat.samples)]
    command += [part for option in contender.options for part in ("--option", option)]
    return runner.run(command, settings.limit, pinned_to)


class Progress:
    """One line on a terminal's standard error that says what runs; nothing elsewhere."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0

    def step(self, what: str) -> None:
        """Shows what runs next."""
        self._done += 1
        self._write(f"[{self._done}/{self._total}] {what}")

    def clear(self) -> None:
        """Takes the line away."""
        self._write("")

    def _write(self, line: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
