"""CREDIT, as docs/PROTOCOL.md has it: what a worker sends on a channel that was limited, and when it gives credit."""

import struct

import pytest

from coordinator import CLOSE, ITEM, OPEN, Channel, decode

CREDIT = 0x80


def credit(worker, number, items):
    worker.send_frame(CREDIT, number, struct.pack("<I", items))


def items_of(worker, number):
    """What the worker has sent on a channel; it is asked some times, in which it could send more."""
    for _ in range(5):
        worker.status()
    return [decode(frame[2], frame[3]) for frame in list(worker.frames) if frame[:2] == (ITEM, number)]


def wait_for(worker, number, count):
    items = [worker.receive(number) for _ in range(count)]
    assert items_of(worker, number) == []
    return items


def test_it_says_that_it_knows_it(worker):
    assert worker.hello["knows_credit"] is True


def test_it_sends_no_more_than_it_has_credit_for(worker):
    number = worker.new_number()
    credit(worker, number, 3)
    worker.execute("for n in range(10): channel.send(n)", number)
    assert wait_for(worker, number, 3) == [0, 1, 2]
    credit(worker, number, 1)
    assert wait_for(worker, number, 1) == [3]
    credit(worker, number, 2)
    credit(worker, number, 2)
    assert wait_for(worker, number, 4) == [4, 5, 6, 7]
    credit(worker, number, 2**32 - 1)
    assert [worker.receive(number) for _ in range(2)] == [8, 9]
    worker.expect(CLOSE, number)


def test_it_gives_credit_when_it_has_taken_half(worker):
    number = worker.new_number()
    credit(worker, number, 4)
    worker.execute("for n in range(channel.receive()): channel.receive()", number)
    for item in (5, 0, 0, 0, 0, 0):
        worker.send(number, item)
    given = [worker.next_frame(number) for _ in range(3)]
    assert [(frame[0], struct.unpack("<I", frame[3])) for frame in given] == [(CREDIT, (2,))] * 3
    worker.expect(CLOSE, number)


def test_a_channel_that_is_opened_can_be_limited_as_well(worker):
    other = worker.new_number()
    credit(worker, other, 2)
    worker.send_frame(OPEN, other)
    number = worker.execute("other = channel.receive()\nfor n in range(3): other.send(n)")
    worker.send(number, Channel(other), dumped=True)
    assert wait_for(worker, other, 2) == [0, 1]
    credit(worker, other, 1)
    assert worker.receive(other) == 2


def test_without_it_a_worker_sends_what_it_wants(worker):
    limited, number = worker.new_number(), worker.new_number()
    credit(worker, limited, 1)
    worker.execute("for n in range(100): channel.send(n)", number)
    assert [worker.receive(number) for _ in range(100)] == list(range(100))
    credit(worker, number, 1)  # on a channel that is closed


def test_who_waits_for_credit_is_told_of_the_end_of_its_channel(worker):
    number = worker.new_number()
    credit(worker, number, 1)
    worker.execute("import sys\nchannel.send(0)\ntry: channel.send(1)\nexcept OSError: sys.told = True", number)
    assert wait_for(worker, number, 1) == [0]
    worker.send_frame(CLOSE, number)
    assert worker.evaluate("import sys, time\nwhile not hasattr(sys, 'told'): time.sleep(0.01)\nchannel.send(sys.told)") == [True]


@pytest.mark.parametrize("payload", [b"", b"abc", bytes(4), b"12345"])
def test_credit_of_another_form_is_a_protocol_error(start, payload):
    worker = start()
    worker.send_frame(CREDIT, 1, payload)
    worker.wait()
    assert b"protocol error" in worker.stderr
