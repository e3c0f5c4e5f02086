"""Channels as Python sees them."""

import gc
import math
import queue
import threading
import time
import weakref

import pytest

import farexec

ITEMS = [
    None,
    True,
    False,
    0,
    -1,
    255,
    256,
    2**31 - 1,
    2**31,
    -(2**31),
    -(2**31) - 1,
    2**63,
    -(2**63),
    10**5000,
    -(10**300),
    0.0,
    -1.5,
    math.inf,
    1 + 2j,
    "",
    "text",
    "grüße 世界 🦀",
    "x" * 100_000,
    b"",
    b"\x00\xff",
    b"y" * 3_000_000,
    (),
    (1,),
    (1, 2, 3, 4),
    [],
    [1, [2, [3]]],
    list(range(5000)),
    {},
    {"a": 1, 2: "b", (3, "c"): None},
    {n: n for n in range(3000)},
    set(),
    {1, "a"},
    set(range(3000)),
    frozenset(),
    frozenset([(1, 2)]),
    {"nested": [{"deep": ({1, 2}, [b"bytes", 1j])}]},
]


def nested(depth):
    item = []
    for _ in range(depth):
        item = [item]
    return item


@pytest.mark.parametrize("item", [*ITEMS, nested(300)], ids=lambda item: type(item).__name__)
def test_items_come_back_equal_and_of_the_same_type(gateway, item, workers_version):
    channel = gateway.remote_exec("channel.send(channel.receive())")
    if workers_version < (3,):
        # Its bytes are its str, which arrives as text unless told otherwise: tests/test_interpreters.py has that.
        channel.reconfigure(py2str_as_py3str=False, py3str_as_py2str=False)
    channel.send(item)
    back = channel.receive(timeout=20)
    assert type(back) is type(item)
    assert back == item


def test_nan_is_sent_as_it_is(gateway):
    channel = gateway.remote_exec("channel.send(channel.receive())")
    channel.send(math.nan)
    assert math.isnan(channel.receive())


class Number(int):
    pass


cycle: list = []
cycle.append(cycle)


@pytest.mark.parametrize(
    ("item", "place"),
    [
        (object(), "object"),
        (Number(1), "Number"),
        (bytearray(b"x"), "bytearray"),
        (memoryview(b"x"), "memoryview"),
        (..., "ellipsis"),
        ({"x": [1, 2, 3, object()]}, "['x'][3]"),
        ([(1, {Number(2)})], "[0][1]"),
        ({Number(1): 2}, "Number"),
        ("\ud800", "UTF-8"),
        (["ok", "\ud800"], "[1]"),
        (cycle, "[0]: it contains itself"),
        (nested(5000), "nested"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isascii() else "item",
)
def test_what_cannot_be_sent_is_named_with_its_place(gateway, item, place):
    channel = gateway.remote_exec("channel.send(channel.receive())")
    with pytest.raises(farexec.DumpError, match=place.replace("[", r"\[").replace("]", r"\]")):
        channel.send(item)
    channel.send("still works")
    assert channel.receive() == "still works"


def test_numpy_like_objects_are_refused_and_not_turned_into_bytes(gateway):
    import array

    channel = gateway.newchannel()
    with pytest.raises(farexec.DumpError, match=r"array\.array|array"):
        channel.send(array.array("d", [1.0]))


def test_a_remote_exception_is_raised_once_then_the_end(gateway):
    channel = gateway.remote_exec("raise ZeroDivisionError('division by zero')")
    with pytest.raises(channel.RemoteError) as caught:
        channel.receive()
    error = caught.value
    assert error.type_name == "ZeroDivisionError"
    assert error.message == "division by zero"
    assert "ZeroDivisionError: division by zero" in str(error)
    assert error.formatted.startswith("Traceback (most recent call last):")
    assert error.frames[-1][1] == 1
    with pytest.raises(EOFError):
        channel.receive()


def test_a_remote_exception_tells_of_its_cause_and_notes(gateway, workers_version):
    if workers_version < (3,):  # exceptions have neither there
        with pytest.raises(farexec.RemoteError) as caught:
            gateway.remote_exec("raise ValueError('b')").receive()
        assert (caught.value.type_name, caught.value.notes, caught.value.cause) == ("ValueError", [], None)
        return
    channel = gateway.remote_exec("error = ValueError('b')\nerror.__notes__ = ['n']\nraise error from KeyError('a')")
    with pytest.raises(channel.RemoteError) as caught:
        channel.receive()
    error = caught.value
    assert (error.type_name, error.notes, error.frames[0].line) == ("ValueError", ["n"], 3)
    assert (error.cause.type_name, error.cause.message, error.cause.cause) == ("KeyError", "'a'", None)
    assert "KeyError" in str(error)


@pytest.mark.local("about this side")
def test_the_error_of_a_callback_tells_of_its_cause_and_notes(gateway):
    def callback(item):
        try:
            raise KeyError("a")
        except KeyError as cause:
            error = ValueError("b")
            error.__notes__ = ["n"]
            raise error from cause

    channel = gateway.remote_exec("channel.send(1)\nimport time\ntime.sleep(10)")
    channel.setcallback(callback)
    with pytest.raises(channel.RemoteError) as caught:
        channel.waitclose()
    error = caught.value
    assert (error.type_name, error.notes, error.frames[-1].function) == ("ValueError", ["n"], "callback")
    assert (error.cause.type_name, error.cause.message, error.cause.cause) == ("KeyError", "'a'", None)


def test_waitclose_raises_the_remote_error(gateway):
    channel = gateway.remote_exec("raise ValueError(17)")
    with pytest.raises(farexec.RemoteError, match="ValueError: 17"):
        channel.waitclose(timeout=10)
    channel.waitclose()


def test_getremoteerror_hands_it_out_once(gateway):
    channel = gateway.remote_exec("raise ValueError(17)")
    while not channel.isclosed():
        time.sleep(0.01)
    assert "ValueError" in str(channel._getremoteerror())
    assert channel._getremoteerror() is None


def test_a_traceback_names_the_real_file_and_line(gateway):
    def fail(channel):
        raise KeyError("here")

    with pytest.raises(farexec.RemoteError) as caught:
        gateway.remote_exec(fail).waitclose()
    file, line, function, text = caught.value.frames[-1]
    assert file == __file__
    assert line == fail.__code__.co_firstlineno + 1
    assert (function, text) == ("fail", 'raise KeyError("here")')


def test_timeouts(gateway):
    channel = gateway.remote_exec("channel.receive()")
    with pytest.raises(channel.TimeoutError, match=r"no item after 0\.05 seconds"):
        channel.receive(timeout=0.05)
    with pytest.raises(channel.TimeoutError):
        channel.waitclose(timeout=0.05)
    assert issubclass(farexec.TimeoutError, OSError)
    with pytest.raises(ValueError):
        channel.receive(timeout=math.nan)


def test_sending_on_a_closed_channel(gateway):
    channel = gateway.remote_exec("pass")
    channel.waitclose()
    with pytest.raises(OSError, match=f"cannot send to <Channel id={channel.id} closed>"):
        channel.send(1)


def test_reprs(gateway):
    channel = gateway.remote_exec("channel.receive()")
    assert repr(channel) == f"<Channel id={channel.id} open>"
    assert repr(gateway) == "<Gateway id='gw0' receive-live, thread model, 1 active channels>"
    channel.close()
    assert repr(channel) == f"<Channel id={channel.id} closed>"
    assert channel.isclosed()


def test_iteration_ends_with_the_channel(gateway):
    assert list(gateway.remote_exec("for n in range(10): channel.send(n)")) == list(range(10))


def test_iteration_raises_a_remote_error(gateway):
    channel = gateway.remote_exec("channel.send(1); 1/0")
    with pytest.raises(farexec.RemoteError):
        list(channel)


def test_dropping_the_last_reference_closes_the_far_side(gateway):
    report = gateway.newchannel()
    channel = gateway.remote_exec(
        """
        report = channel.receive()
        for item in channel:
            report.send(item)
        report.send("over")
        """
    )
    channel.send(report)
    channel.send(1)
    reference = weakref.ref(channel)
    del channel
    gc.collect()
    assert reference() is None
    assert [report.receive(timeout=10) for _ in range(2)] == [1, "over"]


def test_a_channel_over_a_channel_is_one_object(gateway):
    channel = gateway.remote_exec(
        """
        for _ in range(2):
            channel.send(channel)
        mine = channel.gateway.newchannel()
        channel.send([mine])
        mine.send(mine.receive() * 2)
        """
    )
    assert channel.receive() is channel
    assert channel.receive() is channel
    (theirs,) = channel.receive()
    theirs.send(21)
    assert theirs.receive() == 42
    assert theirs.gateway is gateway


def test_a_channel_of_another_gateway_is_refused(group):
    one, two = group.makegateway(), group.makegateway()
    foreign = one.newchannel()
    with pytest.raises(farexec.DumpError, match="another gateway"):
        two.newchannel().send(foreign)


def test_callback_and_endmarker(gateway):
    channel = gateway.remote_exec("for n in range(100): channel.send(n)")
    received = []
    marker = object()
    channel.setcallback(received.append, endmarker=marker)
    channel.waitclose()
    assert received[:-1] == list(range(100))
    assert received[-1] is marker
    with pytest.raises(OSError, match="callback"):
        channel.setcallback(print)
    with pytest.raises(OSError, match="callback"):
        channel.receive()


def test_none_can_be_an_endmarker(gateway):
    received = []
    channel = gateway.remote_exec("channel.send(1)")
    channel.setcallback(received.append, endmarker=None)
    channel.waitclose()
    assert received == [1, None]


def test_callbacks_run_off_the_callers_threads_in_order(gateway):
    threads = set()
    received = []

    def callback(item):
        threads.add(threading.current_thread())
        received.append(item)

    channels = [gateway.remote_exec("for n in range(50): channel.send(n)") for _ in range(4)]
    for channel in channels:
        channel.setcallback(callback)
    for channel in channels:
        channel.waitclose()
    assert len(received) == 200
    assert len(threads) == 1 and threading.current_thread() not in threads


def test_a_callback_that_raises_closes_the_channel_with_the_error(gateway):
    channel = gateway.remote_exec(
        """
        channel.send(1)
        try:
            channel.receive()
        except channel.RemoteError as error:
            report = str(error)
        import os
        os.environ["REPORT"] = report
        """
    )

    def callback(item):
        raise ValueError("broken callback")

    channel.setcallback(callback)
    with pytest.raises(farexec.RemoteError, match="broken callback"):
        channel.waitclose(timeout=10)
    time.sleep(0.2)
    report = gateway.remote_exec("import os; channel.send(os.environ.get('REPORT'))").receive()
    assert "ValueError: broken callback" in report


def test_a_callback_may_use_its_own_channel(gateway):
    channel = gateway.remote_exec("channel.send(1); channel.send(channel.receive())")
    received = []

    def callback(item):
        received.append(item)
        if len(received) == 1:
            channel.send("answer")

    channel.setcallback(callback)
    channel.waitclose(timeout=10)
    assert received == [1, "answer"]


def test_the_queue_has_the_semantics_of_queue_queue(group):
    group.makegateway()
    group.makegateway()
    channels = group.remote_exec("channel.send(channel.receive())")
    results = channels.make_receive_queue(endmarker=None)
    assert results is channels.make_receive_queue()
    with pytest.raises(queue.Empty):
        results.get_nowait()
    with pytest.raises(queue.Empty):
        results.get(block=False)
    with pytest.raises(queue.Empty):
        results.get(timeout=0.05)
    with pytest.raises(ValueError):
        results.get(timeout=-1)
    assert results.empty() and results.qsize() == 0
    channels.send_each("x")
    pairs = [results.get(timeout=10) for _ in range(4)]
    assert {channel for channel, item in pairs if item == "x"} == set(channels)
    assert sum(item is None for _, item in pairs) == 2


def test_makefile(gateway):
    channel = gateway.remote_exec(
        """
        out = channel.makefile()
        out.write("first line\\nsecond ")
        out.writelines(["line\\n", "rest"])
        """
    )
    file = channel.makefile("r")
    assert file.readline() == "first line\n"
    assert file.read(6) == "second"
    assert list(file) == [" line\n", "rest"]
    assert file.read(5) == ""
    with pytest.raises(ValueError, match="mode 'x'"):
        channel.makefile("x")


def test_many_threads_on_one_gateway(gateway):
    def work(number):
        channel = gateway.remote_exec("for item in channel: channel.send(item)")
        for round_number in range(100):
            channel.send((number, round_number))
            assert channel.receive(timeout=20) == (number, round_number)
        done.append(number)

    done: list[int] = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(done) == list(range(32))


def assert_collected(reference):
    deadline = time.monotonic() + 5
    while reference() is not None and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert reference() is None


class Holder:
    """Holds a channel, and may be held by one, or by a gateway."""

    def take(self, item):
        pass


def test_a_callback_is_let_go_of_when_the_channel_ends(gateway):
    holder = Holder()
    holder.channel = gateway.remote_exec("channel.send(1)")
    holder.channel.setcallback(holder.take, endmarker=None)
    holder.channel.waitclose(5)
    reference = weakref.ref(holder)
    del holder
    assert_collected(reference)


def test_rings_of_gateways_and_channels_are_collected(group):
    holder = Holder()
    holder.gateway = group.makegateway()
    holder.gateway.holder = holder
    holder.channel = holder.gateway.remote_exec("channel.receive()")
    holder.queue = farexec.MultiChannel([holder.gateway.remote_exec("channel.receive()")]).make_receive_queue()
    reference = weakref.ref(holder)
    group.terminate(5)
    del holder
    assert_collected(reference)
