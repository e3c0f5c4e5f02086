"""Faults at random moments of real traffic: workers, relays, templates and coordinators are killed, or stopped and continued, while items
stream, queues and callbacks are fed, calls and tasks are under way. Of each it is known what has to come of it: nothing is lost that was
sent before a death, nothing comes twice, whoever waits is told, a map has all its results, and nothing runs on.

What is random comes from a seed, which the name of a test has: `--seed=N --faults=1` repeats one, `--faults=500` tries more."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import farexec
from processes import wait_until_gone

PID = "import os; channel.send(os.getpid())"
COUNT = 20_000


def killed_later(chance, pid, number=signal.SIGKILL, most=0.15):
    """Sends a signal to a process after a while; returns the thread that does."""
    timer = threading.Timer(chance.random() * most, lambda: os.kill(pid, number))
    timer.start()
    return timer


def stopped_and_continued(chance, pid):
    """Stops a process a few times, for a moment each."""

    def work():
        for _ in range(3):
            time.sleep(chance.random() * 0.05)
            os.kill(pid, signal.SIGSTOP)
            time.sleep(chance.random() * 0.1)
            os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def pid_of(gateway):
    return gateway.remote_exec(PID).receive(20)


def pids_alive(group):
    """Of those gateways that have not ended: one that dies when nothing is left to do is not replaced."""
    pids = []
    for gateway in group:
        try:
            pids.append(pid_of(gateway))
        except (OSError, EOFError):
            pass
    return pids


def until_the_end(channel):
    """All items of a channel, and why there are no more."""
    items = []
    try:
        while True:
            items.append(channel.receive(40))
    except EOFError as error:
        return items, str(error)


def tells_of_a_kill(reason, pid):
    return str(pid) in reason and ("signal 9" in reason or "SIGKILL" in reason)


# What may happen. Each returns the processes that have to be gone in the end.


def a_worker_dies_that_sends(chance, group, spec):
    gateway = group.makegateway(spec)
    pid = pid_of(gateway)
    channel = gateway.remote_exec("number = 0\nwhile True:\n    channel.send(number)\n    number += 1")
    timer = killed_later(chance, pid)
    items, reason = until_the_end(channel)
    timer.join()
    assert items == list(range(len(items)))
    assert tells_of_a_kill(reason, pid), reason
    return [pid]


def a_worker_dies_that_is_sent_to(chance, group, spec):
    gateway = group.makegateway(spec)
    pid = pid_of(gateway)
    channel = gateway.remote_exec("while True: channel.receive()")
    timer = killed_later(chance, pid)
    try:
        while True:
            channel.send(b"x" * chance.choice([1, 100, 70_000]))
    except OSError:
        pass
    timer.join()
    return [pid]


def one_of_several_dies_that_feed_a_queue(chance, group, spec):
    gateways = [group.makegateway(spec) for _ in range(3)]
    pids = [pid_of(gateway) for gateway in gateways]
    source = f"for number in range({COUNT}): channel.send(number)"
    channels = farexec.MultiChannel([gateway.remote_exec(source) for gateway in gateways])
    queue = channels.make_receive_queue(endmarker=None)
    timer = killed_later(chance, pids[0], most=0.05)
    items = {channel: [] for channel in channels}
    ends = []
    while len(ends) < 3:
        channel, item = queue.get(timeout=40)
        if item is None:
            ends.append(channel)
        else:
            items[channel].append(item)
    timer.join()
    assert len(set(ends)) == 3
    for channel, came in items.items():
        assert came == list(range(len(came)))
        assert len(came) == COUNT or channel.gateway is gateways[0]
    return pids


def a_worker_dies_that_feeds_a_callback(chance, group, spec):
    gateway = group.makegateway(spec)
    pid = pid_of(gateway)
    channel = gateway.remote_exec("number = 0\nwhile True:\n    channel.send(number)\n    number += 1")
    items, ended = [], threading.Event()

    def take(item):
        assert not ended.is_set()
        ended.set() if item is None else items.append(item)

    channel.setcallback(take, endmarker=None)
    timer = killed_later(chance, pid)
    assert ended.wait(40)
    timer.join()
    assert items == list(range(len(items)))
    return [pid]


def a_worker_dies_that_is_called(chance, group, spec):
    gateway = group.makegateway(spec)
    pid = pid_of(gateway)
    timer = killed_later(chance, pid)
    number = 0
    try:
        while True:
            assert gateway.call("operator:neg", number) == -number
            number += 1
    except (EOFError, OSError) as error:
        assert str(pid) in str(error) or "closed" in str(error), error
    timer.join()
    return [pid]


def workers_die_that_have_tasks(chance, group, spec):
    for _ in range(3):
        group.makegateway(spec)
    pids = [pid_of(gateway) for gateway in group]
    timers = [killed_later(chance, pid, most=0.3) for pid in pids if chance.random() < 0.7]
    results = list(group.map("operator:neg", range(COUNT // 4), retries=10))
    for timer in timers:
        timer.join()
    assert results == [-number for number in range(COUNT // 4)]
    return [*pids, *pids_alive(group)]


def a_worker_stands_still_for_a_while(chance, group, spec):
    gateway = group.makegateway(spec)
    pid = pid_of(gateway)
    channel = gateway.remote_exec(f"for number in range({COUNT}): channel.send(channel.receive() + number)")
    thread = stopped_and_continued(chance, pid)
    sender = threading.Thread(target=lambda: [channel.send(number) for number in range(COUNT)])
    sender.start()
    assert [channel.receive(40) for _ in range(COUNT)] == [2 * number for number in range(COUNT)]
    sender.join()
    thread.join()
    return [pid]


def without_the_model_that_cannot_relay(spec):
    return spec.replace("//threads=none", "")


def a_relay_dies(chance, group, spec):
    spec = without_the_model_that_cannot_relay(spec)
    relay = group.makegateway(f"{spec}//id=relay")
    gateway = group.makegateway("popen//via=relay")
    pids = [pid_of(relay), pid_of(gateway)]
    channel = gateway.remote_exec("number = 0\nwhile True:\n    channel.send(number)\n    number += 1")
    timer = killed_later(chance, pids[0])
    items, _ = until_the_end(channel)
    timer.join()
    assert items == list(range(len(items)))
    return pids


def the_template_dies(chance, group, spec):
    first = group.makegateway("popen//start=template")
    template = first.remote_exec("import os; channel.send(os.getppid())").receive(20)
    pids = [pid_of(first)]
    timer = killed_later(chance, template, chance.choice([signal.SIGKILL, signal.SIGTERM]), most=0.02)
    pids += [pid_of(group.makegateway("popen//start=template")) for _ in range(6)]
    timer.join()
    # Nobody needs it to go on.
    assert pid_of(first) == pids[0]
    return [template, *pids]


# A program that has workers do all kinds of things, and says which processes they are.
COORDINATOR = """
    import json, sys, threading, farexec

    specs = json.loads(sys.argv[1])
    group = farexec.Group(specs)
    pids = [gateway.remote_exec("import os; channel.send([os.getpid(), os.getppid()])").receive() for gateway in group]
    busy = group.remote_exec("while True: channel.send(channel.receive())")
    stream = group.remote_exec("while True: channel.send(b'x' * 1000)").make_receive_queue()
    threading.Thread(target=lambda: [stream.get() for _ in iter(int, 1)], daemon=True).start()
    print(json.dumps(pids), flush=True)
    for _ in group.map("time:sleep", iter(lambda: 0.001, None)):
        pass
"""


def the_coordinator_dies(chance, group, spec):
    specs = [f"{without_the_model_that_cannot_relay(spec)}//id=a", spec, "popen//via=a"]
    program = [sys.executable, "-c", textwrap.dedent(COORDINATOR), json.dumps(specs)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        pids = json.loads(process.stdout.readline())
        try:
            killed_later(chance, process.pid, chance.choice([signal.SIGKILL, signal.SIGTERM])).join()
            process.wait(20)
        finally:
            process.kill()
    return [pid for worker, parent in pids for pid in (worker, parent) if pid != process.pid]


FAULTS = [
    a_worker_dies_that_sends,
    a_worker_dies_that_is_sent_to,
    one_of_several_dies_that_feed_a_queue,
    a_worker_dies_that_feeds_a_callback,
    a_worker_dies_that_is_called,
    workers_die_that_have_tasks,
    a_worker_stands_still_for_a_while,
    a_relay_dies,
    the_template_dies,
    the_coordinator_dies,
]
SPECS = ["popen", "popen//start=spawn", "popen//native=no", "popen//threads=none"]


def test_a_fault_at_random(chance, seed, told):
    # The number of the fault follows the seed, so that neighbours are of all kinds.
    fault, spec = FAULTS[seed % len(FAULTS)], chance.choice(SPECS)
    told(f"seed {seed}: {fault.__name__} ({spec})")
    with farexec.Group() as group:
        pids = fault(chance, group, spec)
        group.terminate(timeout=2)
    wait_until_gone(*pids, seconds=20)
