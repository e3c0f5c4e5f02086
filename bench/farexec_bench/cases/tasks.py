"""Trivial tasks through two workers, each result delivered on its own: what a task farm costs per task."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from ..casework import Figures, Run, Unavailable, case
from .starting import check

WORKERS = 2

PROCESSOR = """
channel.send("ready")
for task in channel:
    if task is None:
        break
    channel.send(task + 1)
"""


def add_one(task: int) -> int:
    """The task."""
    return task + 1


@case("tasks")
def task_farm(run: Run) -> Figures:
    """Workers say that they are ready, and get a new task for each result; with the option map, Group.map."""
    with run.group(WORKERS) as group:
        if "map" in run.options:
            return run.sample(lambda: tasks_by_map(group, run), per=run.size)
        return farm(group, run)


def farm(group: Any, run: Run) -> Figures:
    """The pattern that execnet's users write: a receive queue, and a task for whoever delivered."""
    channels = group.remote_exec(PROCESSOR)
    queue = channels.make_receive_queue(endmarker=-1)
    idle = []
    for _ in channels:
        channel, item = queue.get()
        check(item == "ready", "a worker says that it is ready")
        idle.append(channel)

    def batch() -> None:
        tasks = iter(range(run.size))
        for channel, task in zip(idle, tasks, strict=False):
            channel.send(task)
        total = 0
        for _ in range(run.size):
            channel, result = queue.get()
            total += result
            following = next(tasks, None)
            if following is not None:
                channel.send(following)
        check_total(total, run.size)

    figures = run.sample(batch, per=run.size)
    channels.send_each(None)
    for _ in channels:
        check(queue.get()[1] == -1, "each channel ends with its endmarker")
    return figures


def tasks_by_map(group: Any, run: Run) -> None:
    """The same tasks by one call."""
    if not hasattr(group, "map"):
        raise Unavailable(f"{run.library} has no Group.map")
    check_total(sum(group.map(add_one, range(run.size))), run.size)


@case("tasks", "multiprocessing")
def pool(run: Run) -> Figures:
    """multiprocessing.Pool, one task at a time."""
    with multiprocessing.get_context("fork").Pool(WORKERS) as workers:

        def batch() -> None:
            check_total(sum(workers.imap_unordered(add_one, range(run.size))), run.size)

        return run.sample(batch, per=run.size)


@case("tasks", "futures")
def process_pool_executor(run: Run) -> Figures:
    """concurrent.futures.ProcessPoolExecutor, one task at a time."""
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("fork")) as workers:

        def batch() -> None:
            check_total(sum(workers.map(add_one, range(run.size))), run.size)

        return run.sample(batch, per=run.size)


def check_total(total: int, count: int) -> None:
    """Makes sure that the results of `count` tasks are there, each once."""
    check(total == sum(range(1, count + 1)), "each task has its result")
