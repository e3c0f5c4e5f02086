"""What the standard library and the bare system do in place of `messages`: a pipe, and multiprocessing's.

The far end is a fork of this process, which costs nothing that is timed. A bare pipe carries bytes and no
items: it is the floor that no library can go below.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from ..casework import Figures, Run, case
from .messages import MIB, items_in_stream
from .starting import check


@case("int-round-trip", "pipe")
def pipe_round_trip(run: Run) -> Figures:
    """Eight bytes there and back."""

    def echo(read: int, write: int) -> None:
        while item := os.read(read, 8):
            os.write(write, item)

    with forked(echo) as (read, write):

        def trips() -> None:
            for _ in range(run.size):
                os.write(write, b"12345678")
                os.read(read, 8)

        return run.sample(trips, per=run.size)


@case("bytes-out", "pipe")
def pipe_bytes_out(run: Run) -> Figures:
    """Blocks of 1 MiB into a pipe that holds as much, until the far end has read them all."""
    return pour_out(run, b"x" * MIB, run.size)


@case("stream", "pipe")
def pipe_stream(run: Run) -> Figures:
    """Blocks of `size` bytes, each a write of its own, until the far end has read them all; the cost of a mebibyte."""
    return pour_out(run, b"x" * run.size, items_in_stream(run.size))


def pour_out(run: Run, block: bytes, count: int) -> Figures:
    """Writes blocks into a pipe that holds 1 MiB."""
    total = len(block) * count

    def swallow(read: int, write: int) -> None:
        buffer = memoryview(bytearray(MIB))
        seen = 0
        while received := os.readv(read, [buffer]):
            seen += received
            if seen == total:
                os.write(write, b"!")
                seen = 0

    with forked(swallow) as (read, write):

        def batch() -> None:
            for _ in range(count):
                write_all(write, block)
            os.read(read, 1)

        return run.sample(batch, per=total / MIB)


@case("bytes-in", "pipe")
def pipe_bytes_in(run: Run) -> Figures:
    """Blocks of 1 MiB out of a pipe that holds as much."""

    def pour(read: int, write: int) -> None:
        block = b"x" * MIB
        while os.read(read, 1):
            for _ in range(run.size):
                write_all(write, block)

    buffer = memoryview(bytearray(MIB))
    with forked(pour) as (read, write):

        def batch() -> None:
            os.write(write, b"!")
            left = run.size * MIB
            while left:
                left -= os.readv(read, [buffer])

        return run.sample(batch, per=run.size)


@case("int-round-trip", "multiprocessing")
def multiprocessing_round_trip(run: Run) -> Figures:
    """A small int there and back."""
    with connected(echo_items) as connection:

        def trips() -> None:
            for _ in range(run.size):
                connection.send(1)
                connection.recv()

        return run.sample(trips, per=run.size)


@case("list-round-trip", "multiprocessing")
def multiprocessing_list(run: Run) -> Figures:
    """A list of `size` ints there and back."""
    numbers = list(range(run.size))
    with connected(echo_items) as connection:

        def trip() -> None:
            connection.send(numbers)
            check(len(connection.recv()) == run.size, "the list comes back")

        return run.sample(trip)


@case("ints-out", "multiprocessing")
def multiprocessing_ints_out(run: Run) -> Figures:
    """Small ints to the far end, until it has them all."""
    with connected(sum_items) as connection:

        def batch() -> None:
            connection.send(run.size)
            for number in range(run.size):
                connection.send(number)
            check(connection.recv() == sum(range(run.size)), "all ints arrive")

        return run.sample(batch, per=run.size)


@case("stream", "multiprocessing")
def multiprocessing_stream(run: Run) -> Figures:
    """Items of `size` bytes to the far end, until it has them all; the cost of a mebibyte."""
    item, count = b"x" * run.size, items_in_stream(run.size)
    with connected(measure_items) as connection:

        def batch() -> None:
            connection.send(count)
            for _ in range(count):
                connection.send(item)
            check(connection.recv() == run.size * count, "all bytes arrive")

        return run.sample(batch, per=run.size * count / MIB)


@case("ints-in", "multiprocessing")
def multiprocessing_ints_in(run: Run) -> Figures:
    """Small ints from the far end."""
    with connected(count_items) as connection:

        def batch() -> None:
            connection.send(run.size)
            total = 0
            for _ in range(run.size):
                total += connection.recv()
            check(total == sum(range(run.size)), "all ints arrive")

        return run.sample(batch, per=run.size)


def echo_items(connection: Connection) -> None:
    """Sends back what comes, until None."""
    while (item := connection.recv()) is not None:
        connection.send(item)


def sum_items(connection: Connection) -> None:
    """Adds up as many items as announced, again and again."""
    while (count := connection.recv()) is not None:
        connection.send(sum(connection.recv() for _ in range(count)))


def measure_items(connection: Connection) -> None:
    """Adds up the lengths of as many items as announced, again and again."""
    while (count := connection.recv()) is not None:
        connection.send(sum(len(connection.recv()) for _ in range(count)))


def count_items(connection: Connection) -> None:
    """Sends as many numbers as wanted, again and again."""
    while (count := connection.recv()) is not None:
        for number in range(count):
            connection.send(number)


@contextmanager
def connected(far_end: Callable[[Any], None]) -> Iterator[Any]:
    """One end of a multiprocessing.Pipe; `far_end` has the other, in its own process, and ends on None."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=far_end, args=(there,), daemon=True)
    process.start()
    there.close()
    try:
        yield here
        here.send(None)
    finally:
        here.close()
        process.join()


@contextmanager
def forked(far_end: Callable[[int, int], None]) -> Iterator[tuple[int, int]]:
    """The descriptors to read from and write to a fork that runs `far_end` with its own two."""
    read_here, write_there = wide_pipe()
    read_there, write_here = wide_pipe()
    process = os.fork()
    if process == 0:
        try:
            os.close(read_here)
            os.close(write_here)
            far_end(read_there, write_there)
        finally:
            os._exit(0)
    os.close(read_there)
    os.close(write_there)
    try:
        yield read_here, write_here
    finally:
        os.close(write_here)
        os.close(read_here)
        os.waitpid(process, 0)


def wide_pipe() -> tuple[int, int]:
    """A pipe that holds 1 MiB, where the system allows to set that."""
    read, write = os.pipe()
    set_size = getattr(fcntl, "F_SETPIPE_SZ", None)
    if set_size is not None:
        fcntl.fcntl(write, set_size, MIB)
    return read, write


def write_all(descriptor: int, block: bytes) -> None:
    """Writes a block whole."""
    written = os.write(descriptor, block)
    while written < len(block):
        written += os.write(descriptor, memoryview(block)[written:])
