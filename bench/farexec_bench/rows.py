"""What is measured: the one table to edit.

A row names a case of `cases`, how much one sample does (`size`) and how many are taken (`samples`), in a
whole run and in a quick one. It runs in a new process for each contender and repetition; a repetition's
figure is the median of its samples. Rows with the same case, size and pinning share their measurements, and
show different figures of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from .contenders import (
    ASYNCIO,
    ELSEWHERE,
    EMBEDDED,
    EXECNET,
    EXECUTOR,
    FAREXEC,
    FUTURES,
    LOKY,
    MAP,
    MITOGEN_FORK,
    MITOGEN_LOCAL,
    MPIRE,
    MULTIPROCESSING_PIPE,
    PICKLE,
    PIPE,
    POOL,
    PYRO,
    PYTEST,
    PYTHON,
    RPYC,
    RSYNC,
    RUST,
    SPAWN,
    TEMPLATE,
    WARM_TEMPLATE,
    XDIST,
    XDIST_PRELOAD,
    XDIST_SHIM,
    ZERO_INSTALL,
    Contender,
)
from .goals import (
    BYTES,
    KIBIBYTES,
    MEBIBYTES,
    MEBIBYTES_PER_SECOND,
    MICROSECONDS,
    MILLISECONDS,
    SECONDS,
    THOUSANDS,
    THREADS,
    Goal,
    Unit,
    costing,
    faster,
    within,
)


@dataclass(frozen=True)
class Row:
    """One thing measured, and what it is to reach."""

    name: str
    what: str
    unit: Unit
    contenders: tuple[Contender, ...]
    goals: tuple[Goal, ...] = ()
    case: str = ""  # the name, if empty
    figure: str = "seconds"
    size: int = 1
    quick_size: int = 1
    samples: int = 3
    repetitions: int = 5
    pinned: bool = False


BOTH = (EXECNET, FAREXEC, ZERO_INSTALL)


def native_and_pure(native: float, pure: float, rival: Contender = EXECNET) -> tuple[Goal, ...]:
    """How many times as fast as a rival either worker is to be."""
    return (faster(FAREXEC, native, rival), faster(ZERO_INSTALL, pure, rival))


def like_pickle(execnet: float, pickle: float) -> tuple[Goal, ...]:
    """How many times as fast as execnet, and how much of the time of pickle."""
    return (faster(FAREXEC, execnet, EXECNET), costing(FAREXEC, pickle, PICKLE))


ROWS: tuple[Row, ...] = (
    Row(
        "start-one", "one gateway until its first result",
        MILLISECONDS, (PYTHON, EXECNET, FAREXEC, SPAWN, TEMPLATE),
        (costing(SPAWN, 2, PYTHON), faster(TEMPLATE, 8, EXECNET)),
        samples=5,
    ),
    Row(
        "program", "a whole program: import, one gateway, one result, end",
        MILLISECONDS, (EXECNET, FAREXEC, SPAWN, TEMPLATE),
        (faster(SPAWN, 1, EXECNET), faster(TEMPLATE, 1, EXECNET)),
    ),
    Row(
        "start-32", "a group of 32 until all first results",
        MILLISECONDS, (EXECNET, FAREXEC, SPAWN, TEMPLATE, WARM_TEMPLATE),
        (faster(SPAWN, 5, EXECNET), faster(TEMPLATE, 25, EXECNET), faster(WARM_TEMPLATE, 25, EXECNET)),
        case="start-group", size=32, quick_size=4,
    ),
    Row(
        "terminate-32", "terminate of a group of 32",
        MILLISECONDS, (EXECNET, FAREXEC, SPAWN, TEMPLATE),
        (faster(SPAWN, 4, EXECNET), faster(TEMPLATE, 4, EXECNET)),
        case="start-group", figure="terminate", size=32, quick_size=4,
    ),
    Row(
        "start-16", "16 local workers, made and answering",
        MILLISECONDS, (MITOGEN_FORK, MITOGEN_LOCAL, EXECNET, TEMPLATE, WARM_TEMPLATE),
        (faster(TEMPLATE, 5, MITOGEN_FORK), faster(WARM_TEMPLATE, 5, MITOGEN_FORK)),
        case="start-group", size=16, quick_size=2,
    ),
    Row(
        "start-500", "500 gateways made, answering and ended",
        SECONDS, (FAREXEC,), (within(FAREXEC, 4.0, "4 s"),),
        case="crowd", size=500, quick_size=8, repetitions=3,
    ),
    Row(
        "threads-500", "threads that 500 gateways add to the coordinator (1: the reactor)",
        THREADS, (FAREXEC,), (within(FAREXEC, 1, "1 thread"),),
        case="crowd", figure="threads", size=500, quick_size=8, repetitions=3,
    ),
    Row(
        "memory-500", "the coordinator's memory for each of 500 gateways",
        KIBIBYTES, (FAREXEC,), (within(FAREXEC, 64 * 2**10, "64 KiB"),),
        case="crowd", figure="memory", size=500, quick_size=8, repetitions=3,
    ),
    Row(
        "one-by-one-100", "100 gateways made one by one, each answering",
        MILLISECONDS, (EXECNET, FAREXEC, SPAWN, TEMPLATE), (faster(TEMPLATE, 15, EXECNET),),
        case="one-by-one", size=100, quick_size=4, repetitions=3,
    ),
    Row(
        "threads-100", "threads that 100 gateways after the first add to the coordinator",
        THREADS, (EXECNET, FAREXEC, SPAWN, TEMPLATE),
        (within(SPAWN, 0, "0 threads"), within(TEMPLATE, 0, "0 threads")),
        case="one-by-one", figure="threads", size=100, quick_size=4, repetitions=3,
    ),
    Row(
        "worker-memory", "memory that a worker shares with no other process",
        MEBIBYTES, (EXECNET, FAREXEC, SPAWN, TEMPLATE), (costing(TEMPLATE, 0.5, EXECNET),),
        case="one-by-one", figure="worker-memory", size=100, quick_size=4, repetitions=3,
    ),
    Row(
        "int-round-trip", "a small int there and back",
        MICROSECONDS, (PIPE, MULTIPROCESSING_PIPE, *BOTH),
        (costing(FAREXEC, 2, PIPE), costing(ZERO_INSTALL, 3.5, PIPE)),
        size=3000, quick_size=100, samples=5, pinned=True,
    ),
    Row(
        "int-round-trip-unpinned", "the same on two processors, where waking one is most of it",
        MICROSECONDS, (PIPE, MULTIPROCESSING_PIPE, *BOTH),
        case="int-round-trip", size=3000, quick_size=100, samples=5,
    ),
    Row(
        "int-by-future", "a small int there and back, blocking and by futures",
        MICROSECONDS, (RUST, FUTURES, FAREXEC, ASYNCIO), (costing(FUTURES, 2.5, RUST),),
        case="int-round-trip", size=3000, quick_size=100, samples=5, pinned=True,
    ),
    Row(
        "remote-exec", "remote_exec of a one-liner and its result",
        MICROSECONDS, BOTH, (faster(FAREXEC, 4, EXECNET),),
        size=300, quick_size=20, samples=5, pinned=True,
    ),
    Row(
        "call", "a function that does nothing, called at the far end, and its result",
        MICROSECONDS, (EMBEDDED, PYRO, RPYC, FAREXEC, RUST), (faster(FAREXEC, 5, PYRO),),
        size=1000, quick_size=20, samples=5, pinned=True,
    ),
    Row(
        "ints-out", "small ints one way, to the worker",
        THOUSANDS, (MULTIPROCESSING_PIPE, *BOTH), native_and_pure(10, 4),
        size=30_000, quick_size=500,
    ),
    Row(
        "ints-in", "small ints one way, from the worker",
        THOUSANDS, (MULTIPROCESSING_PIPE, *BOTH), native_and_pure(10, 4),
        size=30_000, quick_size=500,
    ),
    Row(
        "bytes-out", "bytes of 1 MiB one way, to the worker",
        MEBIBYTES_PER_SECOND, (PIPE, *BOTH), native_and_pure(0.8, 0.6, PIPE),
        size=128, quick_size=4,
    ),
    Row(
        "bytes-in", "bytes of 1 MiB one way, from the worker",
        MEBIBYTES_PER_SECOND, (PIPE, *BOTH), native_and_pure(0.8, 0.6, PIPE),
        size=128, quick_size=4,
    ),
    Row(
        "list-round-trip", "a list of 100,000 ints there and back",
        MILLISECONDS, (MULTIPROCESSING_PIPE, *BOTH), native_and_pure(40, 30),
        size=100_000, quick_size=1000, samples=2,
    ),
    Row(
        "dumps-ints", "dumps of a list of 100,000 ints",
        MILLISECONDS, (PICKLE, EXECNET, FAREXEC), like_pickle(150, 0.7),
        size=100_000, quick_size=1000, samples=5,
    ),
    Row(
        "loads-ints", "loads of a list of 100,000 ints",
        MILLISECONDS, (PICKLE, EXECNET, FAREXEC), like_pickle(35, 1),
        size=100_000, quick_size=1000, samples=5,
    ),
    Row(
        "dumps-records", "dumps of 2,000 small records",
        MILLISECONDS, (PICKLE, EXECNET, FAREXEC), like_pickle(70, 0.7),
        size=2000, quick_size=50, samples=15,
    ),
    Row(
        "loads-records", "loads of 2,000 small records",
        MILLISECONDS, (PICKLE, EXECNET, FAREXEC), like_pickle(22, 1),
        size=2000, quick_size=50, samples=15,
    ),
    Row(
        "receive-queue", "small ints from 4 gateways through one receive queue",
        THOUSANDS, BOTH, (faster(FAREXEC, 8, EXECNET),),
        size=10_000, quick_size=200,
    ),
    Row(
        "wide-queue", "small ints from 100 gateways through one receive queue",
        THOUSANDS, BOTH,
        size=400, quick_size=20, repetitions=3,
    ),
    Row(
        "many-senders", "small ints from 64 threads, over one gateway",
        THOUSANDS, BOTH,
        size=500, quick_size=20,
    ),
    Row(
        "tasks", "trivial tasks through 2 workers, each result delivered",
        THOUSANDS, (POOL, EXECUTOR, MPIRE, LOKY, EXECNET, FAREXEC, MAP), (faster(MAP, 3, POOL),),
        size=4000, quick_size=100,
    ),
    Row(
        "channels-in-turn", "channels opened, used and closed one after the other",
        THOUSANDS, BOTH, (faster(FAREXEC, 6, EXECNET),),
        size=1000, quick_size=20, pinned=True,
    ),
    Row(
        "channels-in-turn-unpinned", "the same on two processors, where waking one is most of it",
        THOUSANDS, BOTH,
        case="channels-in-turn", size=1000, quick_size=20,
    ),
    Row(
        "channels-at-once", "10,000 channels open at once on one gateway, each used",
        MILLISECONDS, BOTH, (faster(FAREXEC, 6, EXECNET),),
        size=10_000, quick_size=100, samples=1, repetitions=3,
    ),
    Row(
        "channel-memory", "the coordinator's memory for each of 10,000 open channels, an item in each",
        BYTES, BOTH,
        case="channels-at-once", figure="memory", size=10_000, quick_size=100, samples=1, repetitions=3,
    ),
    Row(
        "rsync-tree", "a tree of 2,000 small files to a place that has nothing",
        MILLISECONDS, (RSYNC, EXECNET, FAREXEC), (costing(FAREXEC, 1, RSYNC),),
        case="tree", size=2000, quick_size=20,
    ),
    Row(
        "rsync-unchanged", "the same tree again, unchanged",
        MILLISECONDS, (RSYNC, EXECNET, FAREXEC), (costing(FAREXEC, 1, EXECNET),),
        case="tree", figure="unchanged", size=2000, quick_size=20,
    ),
    Row(
        "rsync-changed-byte", "a file of 200 MiB with one byte changed, to 4 local targets",
        MILLISECONDS, (RSYNC, EXECNET, FAREXEC, ELSEWHERE), (faster(FAREXEC, 10, EXECNET),),
        case="changed-byte", size=200, quick_size=2, samples=1, repetitions=3,
    ),
    Row(
        "xdist-16", "64 empty tests by 16 workers of pytest-xdist, in a file that imports numpy and more",
        MILLISECONDS, (PYTEST, XDIST, XDIST_SHIM, XDIST_PRELOAD),
        (costing(XDIST_SHIM, 2 / 3, XDIST), costing(XDIST_PRELOAD, 1 / 3, XDIST)),
        case="suite", size=16, quick_size=2, samples=1,
    ),
)  # fmt: skip
