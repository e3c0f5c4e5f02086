"""Work in Python for `instructions` to count: ``python workloads.py NAME COUNT`` does one kind of work so often.

What is counted is this process alone: a gateway's worker is another. Nothing is timed. It is run as a script, from beside the other
modules of the harness.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import farexec

sys.path.insert(0, str(Path(__file__).parent.parent))

from farexec_bench.cases.messages import COUNT, ECHO, SINK
from farexec_bench.cases.serialization import ints, records

Work = Callable[[int], None]


def dumps(item: object) -> Work:
    """`dumps` of the same object."""

    def work(count: int) -> None:
        for _ in range(count):
            farexec.dumps(item)

    return work


def loads(item: object) -> Work:
    """`loads` of the same bytes."""
    data = farexec.dumps(item)

    def work(count: int) -> None:
        for _ in range(count):
            farexec.loads(data)

    return work


@contextmanager
def far_end(source: str) -> Iterator[Any]:
    """A channel to a worker that executes `source`, over a socket: valgrind has no system call to watch a process that is started."""
    os.environ["FAREXEC_SECRET"] = secrets.token_hex()
    script = Path(farexec.__file__).with_name("socketserver.py")
    command = [sys.executable, str(script), "127.0.0.1:0", "--once"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, farexec.Group() as group:
        assert server.stdout is not None
        address = server.stdout.readline().split()[-1]
        yield group.makegateway(f"socket={address}").remote_exec(source)


def there_and_back(item: object) -> Work:
    """An item to a worker and back, one after the other."""

    def work(count: int) -> None:
        with far_end(ECHO) as channel:
            for _ in range(count):
                channel.send(item)
                channel.receive()

    return work


def outwards(count: int) -> None:
    """Small ints to a worker, which tells at the end that it has them."""
    with far_end(SINK) as channel:
        channel.send(count)
        for number in range(count):
            channel.send(number)
        channel.receive()


def inwards(count: int) -> None:
    """Small ints from a worker."""
    with far_end(COUNT) as channel:
        channel.send(count)
        for _ in range(count):
            channel.receive()


WORK: dict[str, Callable[[], Work]] = {
    "dumps-ints": lambda: dumps(ints(1000)),
    "loads-ints": lambda: loads(ints(1000)),
    "dumps-records": lambda: dumps(records(100)),
    "loads-records": lambda: loads(records(100)),
    "round-trip": lambda: there_and_back(1),
    "round-trip-records": lambda: there_and_back(records(100)),
    "ints-out": lambda: outwards,
    "ints-in": lambda: inwards,
}

if __name__ == "__main__":
    _, name, times = sys.argv
    WORK[name]()(int(times))
