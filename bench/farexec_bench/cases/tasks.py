"""Tasks through two workers, each result delivered on its own: what a task farm costs per task, and how long tasks have to be
for that not to matter.
"""

from __future__ import annotations

import inspect
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from ..casework import LIBRARIES, Figures, Run, Unavailable, case
from .starting import check

WORKERS = 2

SECONDS_OF_TASKS = 0.4
"""How long the tasks of one sample take the workers, if nothing but the tasks takes time."""

MOST_TASKS = 4000
"""The number of tasks in a sample of the shortest ones."""

PROCESSOR = """
channel.send("ready")
for task in channel:
    if task is None:
        break
    channel.send({function}(task))
"""

Function = Callable[[Any], Any]
Through = Callable[[Iterable[Any]], Iterable[Any]]
"""Has each item worked on by the workers, and gives the results in any order."""


def add_one(task: int) -> int:
    """A trivial task."""
    return task + 1


def compute(seconds: float) -> float:
    """A task that takes a processor for some time."""
    import time

    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return seconds


@contextmanager
def gateways(run: Run, function: Function) -> Iterator[Through]:
    """Group.map with the option map, else the pattern that execnet's users write."""
    with run.group(WORKERS) as group:
        if "map" not in run.options:
            with farm(group, function) as through:
                yield through
        elif hasattr(group, "map"):
            yield lambda items: group.map(function, items)
        else:
            raise Unavailable(f"{run.library} has no Group.map")


@contextmanager
def farm(group: Any, function: Function) -> Iterator[Through]:
    """A receive queue, and a task for whoever delivered; workers say when they are ready."""
    channels = group.remote_exec(inspect.getsource(function) + PROCESSOR.format(function=function.__name__))
    queue = channels.make_receive_queue(endmarker=-1)
    idle = []
    for _ in channels:
        channel, item = queue.get()
        check(item == "ready", "a worker says that it is ready")
        idle.append(channel)

    def through(items: Iterable[Any]) -> Iterator[Any]:
        tasks = iter(items)
        running = 0
        for channel, task in zip(idle, tasks, strict=False):
            channel.send(task)
            running += 1
        while running:
            channel, result = queue.get()
            following = next(tasks, None)
            if following is None:
                running -= 1
            else:
                channel.send(following)
            yield result

    yield through
    channels.send_each(None)
    for _ in channels:
        check(queue.get()[1] == -1, "each channel ends with its endmarker")


@contextmanager
def pool(_run: Run, function: Function) -> Iterator[Through]:
    """multiprocessing.Pool, one task at a time."""
    with multiprocessing.get_context("fork").Pool(WORKERS) as workers:
        yield lambda items: workers.imap_unordered(function, items)


@contextmanager
def process_pool_executor(_run: Run, function: Function) -> Iterator[Through]:
    """concurrent.futures.ProcessPoolExecutor, one task at a time."""
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("fork")) as workers:
        yield lambda items: workers.map(function, items)


@contextmanager
def mpire(_run: Run, function: Function) -> Iterator[Through]:
    """mpire's WorkerPool, one task at a time."""
    from mpire import WorkerPool

    with WorkerPool(WORKERS, start_method="fork", keep_alive=True) as workers:
        yield lambda items: workers.imap_unordered(function, items, chunk_size=1)


@contextmanager
def loky(_run: Run, function: Function) -> Iterator[Through]:
    """loky's executor, one task at a time."""
    from loky import ProcessPoolExecutor as Executor

    with Executor(WORKERS) as workers:
        yield lambda items: workers.map(function, items)


WAYS: dict[str, Callable[[Run, Function], AbstractContextManager[Through]]] = {
    **dict.fromkeys(LIBRARIES, gateways),
    "multiprocessing": pool,
    "futures": process_pool_executor,
    "mpire": mpire,
    "loky": loky,
}


@case("tasks", *WAYS)
def tasks(run: Run) -> Figures:
    """Trivial tasks, `size` of them."""
    with WAYS[run.library](run, add_one) as through:

        def batch() -> None:
            total = sum(through(range(run.size)))
            check(total == sum(range(1, run.size + 1)), "each task has its result")

        return run.sample(batch, per=run.size)


@case("task-length", *WAYS)
def task_length(run: Run) -> Figures:
    """Tasks of `size` microseconds."""
    seconds = run.size * 1e-6
    count = min(MOST_TASKS, max(2 * WORKERS, round(SECONDS_OF_TASKS * WORKERS / seconds)))
    with WAYS[run.library](run, compute) as through:

        def batch() -> None:
            check(list(through([seconds] * count)) == [seconds] * count, "each task has its result")

        return run.sample(batch, per=count)
