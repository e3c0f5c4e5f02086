"""The examples of the documentation that the project began with, each typed in as `import farexec as execnet`."""

import random

import pytest

import farexec as execnet


@pytest.fixture(autouse=True)
def no_gateways_left():
    yield
    execnet.default_group.terminate(timeout=1)
    assert len(execnet.default_group) == 0


def test_multichannel_is_a_container_for_channels():
    ch1 = execnet.makegateway().remote_exec("channel.send(1)")
    ch2 = execnet.makegateway().remote_exec("channel.send(2)")
    mch = execnet.MultiChannel([ch1, ch2])
    assert len(mch) == 2
    assert mch[0] is ch1 and mch[1] is ch2
    assert ch1 in mch and ch2 in mch
    assert sum(mch.receive_each()) == 3


def test_results_come_through_a_receive_queue():
    ch1 = execnet.makegateway().remote_exec("channel.send(1)")
    ch2 = execnet.makegateway().remote_exec("channel.send(2)")
    mch = execnet.MultiChannel([ch1, ch2])
    queue = mch.make_receive_queue()
    chan1, res1 = queue.get()
    chan2, res2 = queue.get(timeout=3)
    assert res1 + res2 == 3
    assert {chan1, chan2} == {ch1, ch2}


def test_callbacks_process_incoming_data_immediately():
    gw = execnet.makegateway()
    ch = gw.remote_exec("channel.receive() ; channel.send(42)")
    received = []
    ch.setcallback(received.append)
    ch.send(1)
    ch.waitclose()
    assert received == [42]


def test_results_and_termination_are_told_robustly():
    group = execnet.Group(["popen"] * 3)
    mch = group.remote_exec("channel.send(channel.receive()+1)")
    queue = mch.make_receive_queue(endmarker=42)
    mch[0].send(1)
    chan1, res1 = queue.get()
    assert (chan1, res1) == (mch[0], 2)
    group.terminate(timeout=1)
    for _ in range(3):
        chan1, res1 = queue.get()
        assert res1 == 42
    assert repr(group) == "<Group []>"
    assert queue.empty()


def process_item(channel):
    import random
    import time

    channel.send("ready")
    for x in channel:
        if x is None:
            break
        time.sleep(random.random() / 50)
        channel.send(x * 10)


def test_tasks_saturate_all_workers_and_no_result_is_lost():
    group = execnet.Group()
    for _ in range(4):
        group.makegateway()
    mch = group.remote_exec(process_item)
    queue = mch.make_receive_queue(endmarker=-1)
    tasks = list(range(10))
    random.shuffle(tasks)
    results = []
    terminated = 0
    while terminated < len(mch):
        channel, item = queue.get(timeout=20)
        if item == -1:
            terminated += 1
            continue
        if item != "ready":
            results.append(item)
        channel.send(tasks.pop() if tasks else None)
    assert sorted(results) == [task * 10 for task in range(10)]
    group.terminate(timeout=1)
    assert len(group) == 0
