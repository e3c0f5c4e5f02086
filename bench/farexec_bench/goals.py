"""What a row is to reach, the units figures are shown in, and the arithmetic of both.

Figures come as costs (seconds for one operation, bytes, threads); less is better, also where the unit shown
is a rate.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .contenders import Contender


@dataclass(frozen=True)
class Unit:
    """How a cost is shown."""

    name: str
    show: Callable[[float], float]


SECONDS = Unit("s", lambda cost: cost)
MILLISECONDS = Unit("ms", lambda cost: cost * 1e3)
MICROSECONDS = Unit("us", lambda cost: cost * 1e6)
THOUSANDS = Unit("k/s", lambda cost: 1e-3 / cost)
MEBIBYTES_PER_SECOND = Unit("MiB/s", lambda cost: 1 / cost)
TASKS_PER_SECOND = Unit("tasks/s", lambda cost: 1 / cost)
BYTES = Unit("bytes", lambda cost: cost)
KIBIBYTES = Unit("KiB", lambda cost: cost / 2**10)
MEBIBYTES = Unit("MiB", lambda cost: cost / 2**20)
THREADS = Unit("threads", lambda cost: cost)


@dataclass(frozen=True)
class Goal:
    """What `contender` is to reach: a cost of at most `most`, or at most `most` times the rival's."""

    contender: Contender
    most: float
    rival: Contender | None
    text: str
    inverse: bool = False


def faster(contender: Contender, times: float, rival: Contender) -> Goal:
    """At least `times` as fast as the rival."""
    return Goal(contender, 1 / times, rival, f"at least {times:.3g} x {rival.name}", inverse=True)


def costing(contender: Contender, times: float, rival: Contender) -> Goal:
    """At most `times` what the rival takes."""
    return Goal(contender, times, rival, f"at most {times:.3g} x {rival.name}")


def within(contender: Contender, most: float, text: str) -> Goal:
    """At most a fixed cost."""
    return Goal(contender, most, None, f"at most {text}")


@dataclass(frozen=True)
class Verdict:
    """How a goal came out; the ratios are those of the goal's text, the spread that of single repetitions."""

    met: bool
    ratio: float | None
    low: float | None
    high: float | None
    certain: bool


def judge(goal: Goal, own: Sequence[float], rival: Sequence[float]) -> Verdict | None:
    """Compares the costs of all repetitions; None if one side has none."""
    if not own or (goal.rival is not None and not rival):
        return None
    if goal.rival is None:
        low, high = quartiles(own)
        return Verdict(statistics.median(own) <= goal.most, None, None, None, not low <= goal.most < high)
    floor = 1e-12  # a cost of nothing, such as no further thread, is not divided by
    # Repetitions are interleaved, so those of one turn had the machine in the same state.
    pairs = [max(mine, floor) / max(theirs, floor) for mine, theirs in zip(own, rival, strict=False)]
    ratio = max(statistics.median(own), floor) / max(statistics.median(rival), floor)
    low, high = quartiles(pairs)
    met, certain = ratio <= goal.most, not low <= goal.most < high
    if goal.inverse:
        ratio, low, high = 1 / ratio, 1 / high, 1 / low
    return Verdict(met, ratio, low, high, certain)


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The first and the third quartile; of one value, that value."""
    if len(values) == 1:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third
