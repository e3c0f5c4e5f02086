"""Making gateways and ending them: one, many together, many one by one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from ..casework import END_TIMEOUT, Figures, Run, case, clock

ANSWER = "channel.send(1)"

PROGRAM = """
import {library}
group = {library}.Group([{spec!r}])
assert group[0].remote_exec("channel.send(1)").receive() == 1
group.terminate(timeout=5)
"""


@case("start-one")
def start_one(run: Run) -> Figures:
    """One gateway until its first result, in a program that had one before. The end is not timed."""
    seconds = []
    first = run.module.Group([run.spec])
    group = run.module.Group()
    for _ in range(run.samples):
        start = clock()
        gateway = group.makegateway(run.spec)
        gateway.remote_exec(ANSWER).receive()
        seconds.append(clock() - start)
        group.terminate(timeout=END_TIMEOUT)
    run.note_worker(first[0])
    first.terminate(timeout=END_TIMEOUT)
    return {"seconds": seconds}


@case("start-one", "python")
def start_nothing(run: Run) -> Figures:
    """The interpreter alone, by the leanest way to start it."""

    def once() -> None:
        process = os.posix_spawn(sys.executable, [sys.executable, "-c", "pass"], os.environ)
        os.waitpid(process, 0)

    return run.sample(once)


@case("program")
def program(run: Run) -> Figures:
    """A whole program that makes a gateway, gets a result and ends."""
    text = PROGRAM.format(library=run.library, spec=run.spec)
    with run.group():
        pass  # a spec that the library refuses shows here, with the reason

    def once() -> None:
        process = os.posix_spawn(sys.executable, [sys.executable, "-c", text], os.environ)
        if os.waitpid(process, 0)[1] != 0:
            raise RuntimeError("the program failed")

    return run.sample(once)


@case("start-group")
def start_group(run: Run) -> Figures:
    """A group until each of its gateways gave a result; then its end. Warm: after a first gateway."""
    module = run.module
    first = module.Group([run.spec] if "warm" in run.options else [])
    start = clock()
    group = module.Group([run.spec] * run.size)
    results = group.remote_exec(ANSWER).receive_each()
    started = clock()
    check(results == [1] * run.size, "each gateway answers once")
    run.note_worker(group[0])
    ending = clock()
    group.terminate(timeout=END_TIMEOUT)
    ended = clock()
    first.terminate(timeout=END_TIMEOUT)
    return {"seconds": [started - start], "terminate": [ended - ending]}


@case("start-group", "mitogen")
def mitogen_contexts(run: Run) -> Figures:
    """As many contexts of mitogen until each answered; its fork with that option, else its local."""
    from mitogen.master import Broker, Router

    start = clock()
    broker = Broker()
    try:
        router = Router(broker)
        if "fork" in run.options:
            contexts = [router.fork() for _ in range(run.size)]
        else:
            contexts = [router.local(python_path=[sys.executable]) for _ in range(run.size)]
        answers = [context.call_async(os.getpid) for context in contexts]
        processes = {answer.get().unpickle() for answer in answers}
        started = clock()
        check(len(processes) == run.size, "each context answers once")
        ending = clock()
    finally:
        broker.shutdown()
        broker.join()
    return {"seconds": [started - start], "terminate": [clock() - ending]}


@case("crowd")
def crowd(run: Run) -> Figures:
    """Many gateways made together, answering and ended, and what they cost the coordinator."""
    module = run.module
    before = coordinator()
    start = clock()
    group = module.Group([run.spec] * run.size)
    group.remote_exec(ANSWER).receive_each()
    answered = clock()
    figures = costs(before, run.size)
    run.note_worker(group[0])
    ending = clock()
    group.terminate(timeout=END_TIMEOUT)
    return {"seconds": [answered - start + clock() - ending], **figures}


@case("one-by-one")
def one_by_one(run: Run) -> Figures:
    """Gateways made one after the other, each answering; the ones before stay. The end is not timed."""
    group = run.module.Group()
    group.makegateway(run.spec).remote_exec(ANSWER).receive()
    before = coordinator()
    start = clock()
    for _ in range(run.size):
        gateway = group.makegateway(run.spec)
        gateway.remote_exec(ANSWER).receive()
    seconds = clock() - start
    figures = costs(before, run.size)
    figures["worker-memory"] = worker_memory(gateway)
    run.note_worker(gateway)
    group.terminate(timeout=END_TIMEOUT)
    return {"seconds": [seconds], **figures}


def check(holds: bool, what: str) -> None:
    """Makes sure of a result; also when assertions are off."""
    if not holds:
        raise RuntimeError(f"does not hold: {what}")


def coordinator() -> tuple[int, int] | None:
    """How many threads and how much resident memory this process has; None where that cannot be seen."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return len(os.listdir("/proc/self/task")), pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def costs(before: tuple[int, int] | None, count: int) -> Figures:
    """What `count` gateways added to the coordinator since `before`."""
    now = coordinator()
    if before is None or now is None:
        return {}
    return {"threads": [float(now[0] - before[0])], "memory": [(now[1] - before[1]) / count]}


def worker_memory(gateway: Any) -> list[float]:
    """The memory that the gateway's worker shares with no other process."""
    memory = private_memory(gateway.remote_exec("import os; channel.send(os.getpid())").receive())
    return [] if memory is None else [float(memory)]


def private_memory(process: int) -> int | None:
    """Bytes that a process shares with no other; None where the system does not tell."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
