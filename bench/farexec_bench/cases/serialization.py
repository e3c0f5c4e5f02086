"""Objects to bytes and back: dumps and loads, beside pickle's protocol 5."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

from ..casework import Figures, Run, case
from .starting import check


def ints(count: int) -> object:
    """A list of ints."""
    return list(range(count))


def records(count: int) -> object:
    """A list of small records, as rows of a table are: each of a few fields, all objects their own."""
    return [
        {
            "id": number,
            "name": f"record {number}",
            "score": number * 0.5,
            "tags": ("a", f"b{number}"),
            "done": number % 2 == 0,
        }
        for number in range(count)
    ]


def register(topic: str, make: Callable[[int], object]) -> None:
    """Registers the cases of one kind of object, for the libraries and for pickle."""

    @case(f"dumps-{topic}")
    def dumps(run: Run) -> Figures:
        item, module = make(run.size), run.module
        check(module.loads(module.dumps(item)) == item, "the object survives")
        return run.sample(lambda: module.dumps(item))

    @case(f"loads-{topic}")
    def loads(run: Run) -> Figures:
        module = run.module
        data = module.dumps(make(run.size))
        return run.sample(lambda: module.loads(data))

    @case(f"dumps-{topic}", "pickle")
    def pickle_dumps(run: Run) -> Figures:
        item = make(run.size)
        return run.sample(lambda: pickle.dumps(item, protocol=5))

    @case(f"loads-{topic}", "pickle")
    def pickle_loads(run: Run) -> Figures:
        data: Any = pickle.dumps(make(run.size), protocol=5)
        return run.sample(lambda: pickle.loads(data))


register("ints", ints)
register("records", records)
