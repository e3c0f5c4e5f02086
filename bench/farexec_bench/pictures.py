"""The pictures: what each shows, and the chart that becomes of what was measured.

A picture is measured as rows are: each of its sizes is a row without goals, and shares what it measures with every other row of
the same case, size and pinning. With one size it has bars, with several it has lines.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from . import drawing
from .cases.tasks import WORKERS
from .contenders import (
    EXECNET,
    EXECUTOR,
    FAREXEC,
    LOKY,
    MAP,
    MITOGEN_FORK,
    MITOGEN_LOCAL,
    MPIRE,
    MULTIPROCESSING_PIPE,
    PIPE,
    POOL,
    SPAWN,
    TEMPLATE,
    ZERO_INSTALL,
    Contender,
)
from .drawing import Chart, Point, Series
from .goals import MEBIBYTES_PER_SECOND, MICROSECONDS, MILLISECONDS, TASKS_PER_SECOND, Unit, quartiles
from .rows import Row


def with_unit(size: int, units: Sequence[str], step: int) -> str:
    """A size in the largest unit that leaves it whole, each unit `step` times the one before."""
    for unit in units[:-1]:
        if size % step:
            return f"{size} {unit}"
        size //= step
    return f"{size} {units[-1]}"


def bytes_of(size: int) -> str:
    """A number of bytes."""
    return with_unit(size, ("B", "KiB", "MiB"), 2**10)


def microseconds_of(size: int) -> str:
    """A number of microseconds."""
    return with_unit(size, ("us", "ms", "s"), 1000)


@dataclass(frozen=True)
class Picture:
    """One picture; `best` is the cost of what only does the work itself, if that is known beforehand."""

    name: str
    title: str
    remark: str
    case: str
    unit: Unit
    contenders: tuple[Contender, ...]
    sizes: tuple[int, ...]
    quick_sizes: tuple[int, ...]
    x_name: str = ""
    x_text: Callable[[int], str] = str
    best: Callable[[int], float] | None = None
    samples: int = 3
    repetitions: int = 3
    pinned: bool = False

    @property
    def row_name(self) -> str:
        """How it is called among the rows."""
        return f"picture-{self.name}"

    def rows(self, quick: bool) -> list[Row]:
        """What is to be measured."""
        return [
            Row(
                f"{self.row_name}-{size}", f"{self.title}: {self.x_text(size)}", self.unit, self.contenders,
                case=self.case, size=size, quick_size=size,
                samples=self.samples, repetitions=self.repetitions, pinned=self.pinned,
            )
            for size in (self.quick_sizes if quick else self.sizes)
        ]  # fmt: skip


PICTURES: tuple[Picture, ...] = (
    Picture(
        "start-up", "Gateways that start together, until each gave a result", "Less is better; both axes are logarithmic",
        "start-group", MILLISECONDS, (EXECNET, MITOGEN_LOCAL, MITOGEN_FORK, SPAWN, TEMPLATE),
        sizes=(1, 2, 4, 8, 16, 32, 64), quick_sizes=(1, 2), x_name="gateways",
    ),
    Picture(
        "round-trip", "A small int to a worker and back", "Less is better; all processes on one processor",
        "int-round-trip", MICROSECONDS, (EXECNET, MULTIPROCESSING_PIPE, ZERO_INSTALL, FAREXEC, PIPE),
        sizes=(3000,), quick_sizes=(100,), samples=5, repetitions=5, pinned=True,
    ),
    Picture(
        "streams", "Bytes streamed to a worker, by the size of an item", "More is better; both axes are logarithmic",
        "stream", MEBIBYTES_PER_SECOND, (EXECNET, MULTIPROCESSING_PIPE, ZERO_INSTALL, FAREXEC, PIPE),
        sizes=(1, 2**4, 2**8, 2**12, 2**16, 2**20, 2**23, 2**26), quick_sizes=(2**8, 2**20),
        x_name="size of one item", x_text=bytes_of,
    ),
    Picture(
        "tasks", f"Tasks through {WORKERS} workers, by the length of a task", "More is better; both axes are logarithmic",
        "task-length", TASKS_PER_SECOND, (EXECNET, LOKY, MPIRE, EXECUTOR, POOL, MAP),
        sizes=(100_000, 10_000, 1000, 100, 10), quick_sizes=(20_000, 1000),
        x_name="what one task computes, from long to short", x_text=microseconds_of, best=lambda size: size * 1e-6 / WORKERS,
    ),
)  # fmt: skip

BEST = "nothing but the work"

COLOURS = {
    EXECNET: "red",
    FAREXEC: "blue", TEMPLATE: "blue", MAP: "blue",
    ZERO_INSTALL: "aqua", SPAWN: "aqua",
    MULTIPROCESSING_PIPE: "violet", POOL: "violet",
    MITOGEN_LOCAL: "amber", EXECUTOR: "amber",
    MITOGEN_FORK: "pink", MPIRE: "pink",
    LOKY: "brown",
    PIPE: "grey",
}  # fmt: skip
"""One colour for one library, as far as they go."""

OURS = {contender for contender in COLOURS if contender.library == "farexec"}

Costs = Mapping[tuple[str, Contender], list[float]]
"""The costs of all repetitions, by the row's name."""


def draw(picture: Picture, rows: Sequence[Row], costs: Costs) -> str | None:
    """The picture as SVG, without the contenders that have no figures; None if nobody has."""
    if not any(costs[row.name, contender] for row in rows for contender in picture.contenders):
        return None
    series = []
    for contender in picture.contenders:
        points = [point_of(row, own) for row in rows if (own := costs[row.name, contender])]
        series.append(
            Series(contender.name, COLOURS[contender], points, contender in OURS, dashed=contender == PIPE and len(rows) > 1)
        )
    if picture.best is not None:
        best = [point_of(row, [picture.best(row.size)]) for row in rows]
        series.append(Series(BEST, "grey", best, dashed=True))
    ticks = [(row.size, picture.x_text(row.size)) for row in rows]
    chart = Chart(picture.title, picture.remark, picture.unit.name, series, picture.x_name, ticks)
    return drawing.bars(chart) if len(rows) == 1 else drawing.lines(chart)


def point_of(row: Row, costs: Sequence[float]) -> Point:
    """The median, and the interquartile range."""
    show = row.unit.show
    low, high = sorted(show(end) for end in quartiles(costs))
    return Point(row.size, show(statistics.median(costs)), low, high)
