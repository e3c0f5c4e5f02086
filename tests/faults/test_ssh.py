"""`ssh` killed under gateways: that of one of them, and that of the connection which they share."""

import os
import pathlib
import random
import signal
import sys
import threading
import time

import pytest

import keeper
from processes import wait_until_gone

COUNT = 400


def connections():
    """The processes of `ssh` that this one has: the shared connection's, which runs `cat` there, and those of gateways."""
    shared, own = [], []
    for pid in keeper.children(os.getpid()):
        try:
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0] == b"ssh" or words[0].endswith(b"/ssh"):
            (shared if b"cat" in words else own).append(pid)
    return shared, own


@pytest.fixture
def spec(sshd):
    return f"ssh=farexec-host//ssh_config={sshd.config}//python={sys.executable}"


def test_that_of_a_gateway(group, spec):
    first, second = group.makegateway(spec), group.makegateway(spec)
    pids = [gateway.call("os:getpid") for gateway in (first, second)]
    channel = first.remote_exec("channel.send(1)\nchannel.receive()")
    channel.receive(10)
    # Which one is whose is seen by who ends.
    _, own = connections()
    for pid in own:
        os.kill(pid, signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(EOFError, match="ended by signal 9"):
        channel.receive(20)
    assert time.monotonic() - began < 10
    # The workers see the end of their connections, and what shares one goes on.
    wait_until_gone(*pids)
    assert group.makegateway(spec).call("operator:neg", 1) == -1


def test_that_which_they_share(group, spec):
    gateway = group.makegateway(spec)
    shared, _ = connections()
    pid = gateway.call("os:getpid")
    os.kill(shared[0], signal.SIGKILL)
    with pytest.raises(EOFError):
        gateway.remote_exec("channel.receive()").receive(20)
    wait_until_gone(pid)
    assert group.makegateway(spec).call("operator:neg", 1) == -1


def test_any_while_there_are_tasks(group, spec, pytestconfig, told):
    chance = random.Random(pytestconfig.getoption("--seed"))
    for _ in range(3):
        group.makegateway(spec)
    over, kills = threading.Event(), []

    def kill():
        while not over.wait(0.3):
            shared, own = connections()
            victims = [*shared, *own]
            if victims:
                kills.append(chance.choice(victims))
                os.kill(kills[-1], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        results = sorted(group.map("operator:neg", slowly(COUNT), ordered=False, retries=20))
    finally:
        over.set()
        thread.join()
    told(f"ssh killed {len(kills)} times")
    assert results == sorted(-number for number in range(COUNT))


def slowly(count):
    for number in range(count):
        time.sleep(0.005)
        yield number
