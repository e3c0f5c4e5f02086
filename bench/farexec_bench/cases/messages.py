"""Items on channels: there and back, one way, from many at once; and the channels themselves.

What the standard library has in place of a channel is in `rivals`, under the same names of cases.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
from typing import Any

from ..casework import Figures, Run, case
from .starting import check, coordinator, costs

MIB = 2**20

ECHO = "for item in channel: channel.send(item)"

COUNT = """
for count in channel:
    for number in range(count):
        channel.send(number)
"""

SINK = """
for count in channel:
    total = 0
    for _ in range(count):
        total += channel.receive()
    channel.send(total)
"""

POUR = """
block = b"x" * 2**20
for count in channel:
    for _ in range(count):
        channel.send(block)
"""

SWALLOW = """
for count in channel:
    total = 0
    for _ in range(count):
        total += len(channel.receive())
    channel.send(total)
"""

GREET = """
for opened in channel:
    opened.send(1)
    opened.close()
"""

GREET_TOGETHER = """
for count in channel:
    opened = [channel.receive() for _ in range(count)]
    for number, one in enumerate(opened):
        one.send(number)
        one.close()
    channel.send(count)
"""


def items_in_stream(size: int) -> int:
    """How many items of a size make a stream that is neither over at once nor takes long."""
    return max(4, min(20_000, 256 * MIB // size))


@case("int-round-trip")
def int_round_trip(run: Run) -> Figures:
    """A small int there and back, `size` times in a sample."""
    if "asyncio" in run.options:
        return asyncio.run(int_round_trip_awaited(run))
    with run.group() as group:
        channel = group[0].remote_exec(ECHO)

        def trips() -> None:
            for _ in range(run.size):
                channel.send(1)
                channel.receive()

        return run.sample(trips, per=run.size)


async def int_round_trip_awaited(run: Run) -> Figures:
    """The same in an event loop."""
    aio = importlib.import_module(f"{run.library}.aio")
    async with aio.Group([run.spec]) as group:
        channel = group[0].remote_exec(ECHO)

        async def trips() -> None:
            for _ in range(run.size):
                await channel.send(1)
                await channel.receive()

        figures = await run.sample_awaited(trips, per=run.size)
        run.note_worker(group[0])
        return figures


@case("list-round-trip")
def list_round_trip(run: Run) -> Figures:
    """A list of `size` ints there and back."""
    numbers = list(range(run.size))
    with run.group() as group:
        channel = group[0].remote_exec(ECHO)

        def trip() -> None:
            channel.send(numbers)
            check(len(channel.receive()) == run.size, "the list comes back")

        return run.sample(trip)


@case("remote-exec")
def remote_exec(run: Run) -> Figures:
    """Code of one line, executed, and its result."""
    with run.group() as group:
        gateway = group[0]

        def executions() -> None:
            for _ in range(run.size):
                gateway.remote_exec("channel.send(1)").receive()

        return run.sample(executions, per=run.size)


@case("ints-out")
def ints_out(run: Run) -> Figures:
    """Small ints to the worker, until it has them all."""
    with run.group() as group:
        channel = group[0].remote_exec(SINK)

        def batch() -> None:
            channel.send(run.size)
            for number in range(run.size):
                channel.send(number)
            check(channel.receive() == sum(range(run.size)), "all ints arrive")

        return run.sample(batch, per=run.size)


@case("ints-in")
def ints_in(run: Run) -> Figures:
    """Small ints from the worker."""
    with run.group() as group:
        channel = group[0].remote_exec(COUNT)

        def batch() -> None:
            channel.send(run.size)
            total = 0
            for _ in range(run.size):
                total += channel.receive()
            check(total == sum(range(run.size)), "all ints arrive")

        return run.sample(batch, per=run.size)


@case("bytes-out")
def bytes_out(run: Run) -> Figures:
    """Blocks of 1 MiB to the worker, until it has them all."""
    block = b"x" * MIB
    with run.group() as group:
        channel = group[0].remote_exec(SWALLOW)

        def batch() -> None:
            channel.send(run.size)
            for _ in range(run.size):
                channel.send(block)
            check(channel.receive() == run.size * MIB, "all bytes arrive")

        return run.sample(batch, per=run.size)


@case("bytes-in")
def bytes_in(run: Run) -> Figures:
    """Blocks of 1 MiB from the worker."""
    with run.group() as group:
        channel = group[0].remote_exec(POUR)

        def batch() -> None:
            channel.send(run.size)
            total = 0
            for _ in range(run.size):
                total += len(channel.receive())
            check(total == run.size * MIB, "all bytes arrive")

        return run.sample(batch, per=run.size)


@case("stream")
def stream(run: Run) -> Figures:
    """Items of `size` bytes to the worker, until it has them all; the cost is that of a mebibyte."""
    item, count = b"x" * run.size, items_in_stream(run.size)
    with run.group() as group:
        channel = group[0].remote_exec(SWALLOW)

        def batch() -> None:
            channel.send(count)
            for _ in range(count):
                channel.send(item)
            check(channel.receive() == run.size * count, "all bytes arrive")

        return run.sample(batch, per=run.size * count / MIB)


@case("receive-queue")
def receive_queue(run: Run) -> Figures:
    """Small ints from four workers through one queue."""
    return through_one_queue(run, 4)


@case("wide-queue")
def wide_queue(run: Run) -> Figures:
    """Small ints from a hundred workers through one queue."""
    return through_one_queue(run, 100)


def through_one_queue(run: Run, workers: int) -> Figures:
    """As many ints as `size` from each worker."""
    with run.group(workers) as group:
        channels = group.remote_exec(COUNT)
        queue = channels.make_receive_queue()

        def batch() -> None:
            channels.send_each(run.size)
            total = 0
            for _ in range(run.size * workers):
                total += queue.get()[1]
            check(total == workers * sum(range(run.size)), "all ints arrive")

        return run.sample(batch, per=run.size * workers)


@case("many-senders")
def many_senders(run: Run) -> Figures:
    """Small ints from 64 threads, each on a channel of its own, over one gateway, until the worker has added them up."""
    threads = 64
    with run.group() as group:
        gateway = group[0]
        channels = [gateway.remote_exec(SINK) for _ in range(threads)]

        def send(channel: Any) -> None:
            channel.send(run.size)
            for number in range(run.size):
                channel.send(number)

        def batch() -> None:
            senders = [threading.Thread(target=send, args=(channel,)) for channel in channels]
            for sender in senders:
                sender.start()
            for sender in senders:
                sender.join()
            totals = [channel.receive() for channel in channels]
            check(totals == [sum(range(run.size))] * threads, "each channel has its ints")

        return run.sample(batch, per=run.size * threads)


@case("channels-in-turn")
def channels_in_turn(run: Run) -> Figures:
    """A channel opened, one item received on it, and closed; then the next."""
    with run.group() as group:
        gateway = group[0]
        control = gateway.remote_exec(GREET)

        def batch() -> None:
            for _ in range(run.size):
                opened = gateway.newchannel()
                control.send(opened)
                opened.receive()
                opened.waitclose()

        return run.sample(batch, per=run.size)


@case("channels-at-once")
def channels_at_once(run: Run) -> Figures:
    """Many channels open at the same time, one item received on each."""
    with run.group() as group:
        gateway = group[0]
        control = gateway.remote_exec(GREET_TOGETHER)
        memory: list[float] = []

        def batch() -> None:
            before = coordinator()
            control.send(run.size)
            opened: list[Any] = [gateway.newchannel() for _ in range(run.size)]
            for channel in opened:
                control.send(channel)
            check(control.receive() == run.size, "the worker has all channels")
            memory.extend(costs(before, run.size).get("memory", []))
            check([one.receive() for one in opened] == list(range(run.size)), "each channel has its item")

        figures = run.sample(batch)
        # Later ones find the memory that the first left.
        return {**figures, "memory": memory[:1]}
