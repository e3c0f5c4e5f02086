"""How far a map is: what its ``progress=`` function is told, and the bar that ``tqdm`` draws."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple


class WorkerProgress(NamedTuple):
    """What one worker has done in a map, and how it spent its time, as seen from here: what the connection takes counts as work.

    What those have done whose place it took is counted in.
    """

    id: str
    """The id of its gateway."""
    done: int
    """How many items it gave a result for."""
    failed: int
    """How many items it raised an error for."""
    running: int
    """How many items it has: the one that it is at, and those that it has ahead."""
    start: float
    """Seconds from the beginning of the map until it joined: for one that takes the place of another, or was made meanwhile."""
    wait: float
    """Seconds in which it has had nothing to do since."""
    work: float
    """Seconds in which it has had something to do."""
    restarts: int
    """How many workers were lost whose place it took, one after the other."""


class Progress(NamedTuple):
    """How far a map is.

    >>> import farexec
    >>> told = []
    >>> with farexec.Group(["popen"]) as group:
    ...     list(group.map("math:sqrt", [1, 4], progress=told.append))
    [1.0, 2.0]
    >>> told[-1].done, told[-1].total, [worker.id for worker in told[-1].workers]
    (2, 2, ['gw0'])
    """

    done: int
    """How many items have a result, those included that a journal had."""
    failed: int
    """How many items have none, and get none."""
    running: int
    """How many items workers have."""
    total: int | None
    """How many items there are; None as long as that is not known."""
    workers: tuple[WorkerProgress, ...]
    """The workers that are there now."""


for _class in (Progress, WorkerProgress):
    _class.__module__ = "farexec"  # where users find it


def make(done: int, failed: int, running: int, total: int | None, workers: Iterable[Any]) -> Progress:
    """What the extension module has to tell, as users see it."""
    return Progress(done, failed, running, total, tuple(WorkerProgress(*worker) for worker in workers))


def total_of(iterables: Iterable[Iterable[Any]]) -> int | None:
    """How many items there are, as far as the shortest of `iterables` can be known."""
    try:
        return min(len(iterable) for iterable in iterables)  # type: ignore[arg-type]
    except TypeError:
        return None


def watcher_of(progress: bool | Callable[[Progress], object] | None) -> Callable[[Progress], object] | None:
    """The function to be told, of what ``progress=`` says.

    :raises ImportError: A bar is wanted, and there is no ``tqdm``.
    :raises TypeError: It is nothing of the kind.
    """
    if progress is None or progress is False:
        return None
    if progress is True:
        return Bar()
    if not callable(progress):
        raise TypeError(f"progress is a function or True, not an object of type {type(progress).__name__!r}")
    return progress


class Bar:
    """Draws a bar, and closes it when nothing is left."""

    def __init__(self) -> None:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            raise ImportError("progress=True draws a bar with tqdm, which is not installed: pip install tqdm") from None
        self._bar = tqdm(unit="item")

    def __call__(self, progress: Progress) -> None:
        bar = self._bar
        bar.total = progress.total
        bar.update(progress.done + progress.failed - bar.n)
        bar.set_postfix(failed=progress.failed, workers=len(progress.workers))
        if progress.total == progress.done + progress.failed:
            bar.close()
