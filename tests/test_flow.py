"""Back-pressure: how many items wait for their receiver is bounded where that is asked for, and nowhere else."""

import asyncio
import threading

import pytest

import farexec
from farexec import aio

MANY = 300

# It counts what it has sent, for others to see.
SENDER = f"""
import sys
sys.sent = 0
for number in range({MANY}):
    channel.send(number)
    sys.sent = number + 1
"""


@pytest.fixture(params=["auto", "no"], ids=["native", "pure"])
def limited(request, group):
    """A gateway whose channels hold 10 items at most."""
    gateway = group.makegateway(f"popen//native={request.param}")
    gateway.max_pending = 10
    return gateway


def ask(gateway, expression, until):
    """Asks the worker what an expression is, until that is so."""
    answers = gateway.remote_exec(f"import sys\nfor _ in channel: channel.send({expression})")
    while True:
        answers.send(None)
        answer = answers.receive(10)
        if until(answer):
            return answer


def has_sent(gateway):
    """How many items the worker has sent, once it has sent ten. It is asked some times, in which it could send more."""
    ask(gateway, "getattr(sys, 'sent', 0)", lambda sent: sent >= 10)
    return max(ask(gateway, "sys.sent", lambda sent: True) for _ in range(5))


def test_a_worker_does_not_run_ahead(limited):
    channel = limited.remote_exec(SENDER)
    assert has_sent(limited) == 10
    for number in range(7):
        assert channel.receive() == number
    assert ask(limited, "sys.sent", lambda sent: sent > 10) <= 17
    assert list(channel) == list(range(7, MANY))


def test_what_is_sent_from_a_thread_arrives(limited):
    channel = limited.remote_exec("channel.send([channel.receive() for _ in range(channel.receive())])")
    sent = []

    def send():
        channel.send(20)
        for number in range(20):
            channel.send(number)
            sent.append(number)

    thread = threading.Thread(target=send)
    thread.start()
    thread.join()
    assert channel.receive() == list(range(20)) and len(sent) == 20


def test_what_there_is_no_room_for_in_time_is_not_sent(limited):
    go = limited.newchannel()
    channel = limited.remote_exec("go = channel.receive(); go.receive(); channel.send([channel.receive() for _ in range(11)])")
    channel.send(go)
    sent = 0
    with pytest.raises(farexec.TimeoutError):
        while True:
            channel.send(sent, timeout=0.5)
            sent += 1
    assert 9 <= sent <= 10
    go.send(None)
    for number in range(sent, 11):
        channel.send(number, timeout=30)
    assert channel.receive() == list(range(11))


def test_a_worker_can_give_up_as_well(limited):
    channel = limited.remote_exec("""
        told, sent = channel.receive(), 0
        try:
            while True:
                channel.send(sent, timeout=0.3)
                sent += 1
        except channel.TimeoutError:
            told.send(sent)
        channel.send("end")
    """)
    told = limited.newchannel()
    channel.send(told)
    assert told.receive() == 10
    assert list(channel) == [*range(10), "end"]


def test_callbacks_take_items(limited):
    got, over = [], threading.Event()
    release = threading.Semaphore(0)

    def callback(item):
        if item == "end":
            over.set()
            return
        release.acquire()
        got.append(item)

    limited.remote_exec(SENDER).setcallback(callback, endmarker="end")
    assert has_sent(limited) == 10
    release.release(MANY)
    assert over.wait(30) and got == list(range(MANY))


def test_callbacks_of_workers_take_items(limited):
    channel = limited.remote_exec(f"""
        done, got = channel.receive(), []

        def callback(item):
            got.append(item)
            if len(got) == {MANY}:
                done.send(got)

        channel.setcallback(callback)
        channel.waitclose()
    """)
    done = limited.newchannel()
    channel.send(done)
    for number in range(MANY):
        channel.send(number)
    assert done.receive() == list(range(MANY))


def test_receive_queues_are_bounded(limited):
    channels = farexec.MultiChannel([limited.remote_exec(SENDER)])
    queue = channels.make_receive_queue(endmarker="end")
    assert has_sent(limited) == 10
    assert queue.qsize() <= 10
    items = [queue.get()[1] for _ in range(MANY + 1)]
    assert items == [*range(MANY), "end"]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_smallest_windows_go_on(limited, size):
    limited.max_pending = size
    channel = limited.remote_exec("for item in channel:\n    channel.send(item)\n    channel.send(-item)")
    for number in range(50):
        channel.send(number)
        assert (channel.receive(), channel.receive()) == (number, -number)


def test_many_threads_send_at_once(limited):
    channel = limited.remote_exec("channel.send(sum(channel.receive() for _ in range(800)))")
    threads = [threading.Thread(target=lambda: [channel.send(1) for _ in range(100)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert channel.receive() == 800


def test_a_codec_goes_together_with_it(limited):
    limited.setcodec("pickle")
    channel = limited.remote_exec("for item in channel: channel.send(item)")
    for number in range(50):
        channel.send(complex(number, 1))
        assert channel.receive() == complex(number, 1)


def test_an_item_that_cannot_be_sent_costs_nothing(limited):
    limited.max_pending = 1
    channel = limited.remote_exec("channel.send([channel.receive(), channel.receive()])")
    for number in range(2):
        for _ in range(3):
            with pytest.raises(farexec.DumpError):
                channel.send(object())
        channel.send(number)
    assert channel.receive() == [0, 1]


def test_who_waits_for_room_is_told_of_the_end(limited):
    channel = limited.remote_exec("import time; time.sleep(60)")
    errors = []

    def send():
        try:
            for number in range(100):
                channel.send(number)
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    ask(limited, "1", lambda answer: answer == 1)
    limited._native.exit()
    thread.join(30)
    assert len(errors) == 1 and "cannot send" in str(errors[0])


def test_without_it_nothing_is_bounded(group):
    gateway = group.makegateway()
    assert gateway.max_pending is None
    go = gateway.newchannel()
    channel = gateway.remote_exec("go = channel.receive(); go.receive(); channel.send(sum(channel.receive() for _ in range(5000)))")
    channel.send(go)
    for _ in range(5000):
        channel.send(1)
    go.send(None)
    assert channel.receive() == 5000
    with pytest.raises(ValueError, match="max_pending is a number of items"):
        gateway.max_pending = 0


def test_every_interpreter_keeps_to_it(group, python):
    gateway = group.makegateway(f"popen//python={python}")
    gateway.max_pending = 10
    channel = gateway.remote_exec(SENDER)
    assert has_sent(gateway) == 10
    assert list(channel) == list(range(MANY))
    channel = gateway.remote_exec("channel.send(sum(channel.receive() for _ in range(200)))")
    for _ in range(200):
        channel.send(1)
    assert channel.receive() == 200


# The worker comes as text or as code.
OLDER = """
import marshal, zlib

def older(real):
    return lambda data: real(bytes(data).replace(b"knows_credit", b"known_credit"))

marshal.loads, zlib.decompress = older(marshal.loads), older(zlib.decompress)
"""


@pytest.mark.local("it changes what the interpreter starts with")
def test_a_worker_that_knows_nothing_of_it_is_not_waited_for(group, tmp_path):
    """An older one: what it says of CREDIT has another name."""
    (tmp_path / "sitecustomize.py").write_text(OLDER)
    gateway = group.makegateway(f"popen//start=spawn//native=no//env:PYTHONPATH={tmp_path}")
    gateway.max_pending = 1
    go = gateway.newchannel()
    channel = gateway.remote_exec("go = channel.receive(); go.receive(); channel.send(sum(channel.receive() for _ in range(100)))")
    channel.send(go)
    for _ in range(100):
        channel.send(1)
    go.send(None)
    assert channel.receive() == 100
    assert list(gateway.remote_exec("for n in range(100): channel.send(n)")) == list(range(100))


@pytest.mark.local("it is about this side")
def test_an_event_loop_goes_on_while_there_is_no_room():
    async def main():
        async with aio.Group(["popen"]) as group:
            gateway = group[0]
            gateway.max_pending = 5
            go, sent = gateway.newchannel(), []
            channel = gateway.remote_exec("go = channel.receive(); go.receive(); channel.send([channel.receive() for _ in range(50)])")

            async def send():
                await channel.send(go)
                for number in range(50):
                    await channel.send(number)
                    sent.append(number)

            task = asyncio.create_task(send())
            while len(sent) < 4:
                await asyncio.sleep(0)
            assert len(sent) == 4 and not task.done()
            await go.send(None)
            assert await channel.receive() == list(range(50))
            await task

    asyncio.run(asyncio.wait_for(main(), 30))
