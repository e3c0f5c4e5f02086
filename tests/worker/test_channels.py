"""The channel as executed code sees it: its methods, its ends, callbacks and files. Expected behaviour is that of execnet 2.1.2."""

import time

import pytest

from coordinator import CLOSE, CLOSE_ERROR, DUMP_FORMAT, ITEM, LAST, OPEN, Channel, dump


def texts(value):
    """The same item with the native strings of Python 2 as text."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (list, tuple)):
        return type(value)(texts(part) for part in value)
    return value


def test_attributes(worker):
    source = """
channel.send([channel.id, repr(channel), repr(channel.gateway.execmodel), channel.isclosed(), channel._getremoteerror()])
channel.send([issubclass(channel.TimeoutError, EnvironmentError), issubclass(channel.RemoteError, Exception)])
other = channel.gateway.newchannel()
other.close()
channel.send([repr(other), other.isclosed(), other.waitclose(), other.close()])
"""
    assert texts(worker.evaluate(source)) == [
        [1, "<Channel id=1 open>", "<ExecModel 'thread'>", False, None],
        [True, True],
        ["<Channel id=2 closed>", True, None, None],
    ]


# What a native worker says besides.
MORE_OF_NATIVE = {"closed.send(1)": ": closed by this side", "called.receive()": " or a receive queue"}


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("channel.receive(0.05)", "TimeoutError: no item after 0.05 seconds"),
        ("channel.receive(timeout=0)", "TimeoutError: no item after 0 seconds"),
        ("channel.waitclose(0.1)", "TimeoutError: the channel is not closed after 0.1 seconds"),
        ("channel.close()", "OSError: cannot explicitly close channel within remote_exec"),
        ("closed.send(1)", "OSError: cannot send to <Channel id=2 closed>"),
        ("closed.receive()", "EOFError: "),
        ("closed.receive(0.1)", "EOFError: "),
        ("channel.makefile('a')", "ValueError: mode 'a' not available"),
        ("called.receive()", "OSError: cannot receive(): the items of this channel go to a callback"),
        ("called.setcallback(print_)", "OSError: <Channel id=4 open> has callback already registered"),
    ],
)
def test_errors(worker, is_native, call, expected):
    source = f"""
closed = channel.gateway.newchannel()
closed.close()
called = channel.gateway.newchannel()
print_ = called.setcallback(lambda item: None)
try: {call}
except Exception as error: channel.send([type(error).__name__, str(error)])
"""
    ((name, message),) = texts(worker.evaluate(source))
    assert f"{name}: {message}" == expected + (MORE_OF_NATIVE.get(call, "") if is_native else "")


def test_the_end_from_the_other_side(worker, is_native):
    number = worker.execute(
        "try:\n  channel.receive()\nexcept EOFError:\n  print(list(channel))\n  print(channel.isclosed())\ntry: channel.send(1)\nexcept OSError as e: print(e)"
    )
    worker.send_frame(CLOSE, number)
    worker.terminate()
    assert worker.wait() == 0
    why = b": closed by the far end" if is_native else b""
    assert worker.stderr == b"[]\nTrue\ncannot send to <Channel id=1 closed>" + why + b"\n"


def test_a_remote_error_is_raised_once(worker):
    source = """
for wait in (True, False):
    other = channel.receive()
    try: other.waitclose(10) if wait else other.receive()
    except channel.RemoteError as error: channel.send([str(error), repr(error)])
    try: other.receive()
    except EOFError: channel.send("end")
    channel.send(other._getremoteerror() is None)
"""
    number = worker.execute(source)
    for _ in range(2):
        other = worker.open()
        worker.send(number, Channel(other), dumped=True)
        worker.send_frame(CLOSE_ERROR, other, dump({"text": "boom", "type": "ValueError"}), DUMP_FORMAT)
        assert texts(worker.receive(number)) == ["boom", "RemoteError: boom"]
        assert texts(worker.receive(number)) == "end"
        assert worker.receive(number) is True


def test_closing_with_an_error(worker):
    number = worker.execute("c = channel.gateway.newchannel(); channel.send(c); c.close('what went wrong'); channel.receive()")
    other = worker.receive(number).number
    assert worker.next_frame(other)[0] == OPEN
    report = worker.expect(CLOSE_ERROR, other)
    assert {key: value for key, value in report.items() if value} == {"text": "what went wrong"}


def test_iteration_ends_with_last(worker):
    number = worker.execute("channel.send(list(channel)); channel.send(channel.isclosed()); channel.send('still')")
    for item in (1, 2, 3):
        worker.send(number, item)
    worker.send_frame(LAST, number)
    assert worker.receive(number) == [1, 2, 3]
    assert worker.receive(number) is False
    assert texts(worker.receive(number)) == "still"


def test_dropping_the_last_reference_closes(worker):
    number = worker.execute(
        "c = channel.gateway.newchannel(); channel.send(c); channel.receive()\ndel c\nimport gc; gc.collect()\nchannel.receive()"
    )
    other = worker.receive(number).number
    assert worker.next_frame(other)[0] == OPEN
    worker.send(number, 1)
    worker.expect(CLOSE, other)


def test_dropping_the_last_reference_with_a_callback_says_last(worker):
    source = """
c = channel.gateway.newchannel()
c.setcallback(channel.send, endmarker='end')
channel.send(c)
del c
import gc; gc.collect()
channel.receive()
"""
    number = worker.execute(source)
    other = worker.receive(number).number
    assert worker.next_frame(other)[0] == OPEN
    worker.expect(LAST, other)
    worker.send(other, 1)
    assert worker.receive(number) == 1
    worker.send_frame(CLOSE, other)
    assert texts(worker.receive(number)) == "end"


def test_closing_by_another_thread_wakes_the_receiver(worker):
    source = """
import threading, time
c = channel.gateway.newchannel()
threading.Timer(0.2, c.close).start()
began = time.time()
try: c.receive()
except EOFError: channel.send(time.time() - began)
"""
    (duration,) = worker.evaluate(source)
    assert 0.1 < duration < 5


def test_callbacks_run_in_order_in_one_thread(worker):
    source = """
import threading
got, threads = [], set()
c = channel.gateway.newchannel()
channel.send(c)
channel.receive()
def callback(item):
    got.append(item)
    threads.add(threading.current_thread())
c.setcallback(callback, endmarker="end")
c.waitclose(20)
channel.send(got == list(range(1000)) + ["end"])
channel.send([len(threads), threading.current_thread() in threads])
"""
    number = worker.execute(source)
    other = worker.receive(number).number
    for item in range(500):
        worker.send(other, item)
    worker.send(number, None)
    for item in range(500, 1000):
        worker.send(other, item)
    worker.send_frame(CLOSE, other)
    assert worker.receive(number) is True
    assert worker.receive(number) == [1, False]


def test_callbacks_run_while_the_execution_computes(worker):
    source = """
import time
channel.setcallback(channel.send)
end = time.time() + 20
while time.time() < end: pass
"""
    number = worker.execute(source)
    for item in range(3):
        worker.send(number, item)
        assert worker.receive(number) == item


def test_a_callback_that_raises_closes_its_channel(worker):
    source = """
c = channel.gateway.newchannel()
ends = []
def callback(item):
    if item is None: ends.append(item)
    else: 1/0
c.setcallback(callback, endmarker=None)
channel.send(c)
try: c.waitclose(20)
except channel.RemoteError as error: ends.append(str(error).split()[-1])
channel.send([c.isclosed(), ends])
"""
    number = worker.execute(source)
    other = worker.receive(number).number
    worker.send(other, 1)
    worker.send(other, 2)
    closed, (endmarker, last) = worker.receive(number)
    assert closed and endmarker is None and last in ("zero", b"zero")  # both ends are told, as execnet does
    assert worker.next_frame(other)[0] == OPEN
    error = worker.expect(CLOSE_ERROR, other)
    assert error["type"] == "ZeroDivisionError"
    assert "in callback" in error["text"]
    assert "farexec worker" not in error["text"]


@pytest.mark.parametrize("how", ["close", "error", "last", "terminate", "gone"])
def test_the_endmarker_comes_once_however_it_ends(worker, how):
    number = worker.execute(
        "import sys, time\ndef f(x): print(x)\nchannel.setcallback(f, endmarker='end')\nchannel.send(1)\ntime.sleep(0.2)"
    )
    assert worker.receive(number) == 1
    worker.send(number, 5)
    if how == "close":
        worker.send_frame(CLOSE, number)
    elif how == "error":
        worker.send_frame(CLOSE_ERROR, number, dump({"text": "x"}), DUMP_FORMAT)
    elif how == "last":
        worker.send_frame(LAST, number)
    elif how == "terminate":
        worker.terminate()
    else:
        worker.cut_off()
    if how in ("close", "error", "last"):
        worker.next_frame(number, kinds=[CLOSE], timeout=0.3) if how == "last" else time.sleep(0.3)
        worker.terminate()
    worker.wait()
    assert worker.stderr == b"5\nend\n"


def test_files(worker):
    source = """
f = channel.makefile("w")
f.write("hello"); f.writelines(["a", "b"]); f.flush(); f.close()
channel.send([repr(f), f.isatty(), channel.isclosed()])
f = channel.makefile("r")
channel.send([f.read(3), f.readline(), f.readline(), f.read(2), f.readline(), f.read(5)])
c = channel.gateway.newchannel()
c.makefile("w", proxyclose=True).close()
channel.send(c.isclosed())
"""
    number = worker.execute(source)
    for item in ("abcdef", "gh\nij", "kl\n", "mn", "last"):
        worker.send(number, item)
    worker.send_frame(LAST, number)
    received = [texts(worker.receive(number)) for _ in range(6)]
    assert received == ["hello", "a", "b", ["<ChannelFile 1 open>", False, False], ["abc", "defgh\n", "ijkl\n", "mn", "last", ""], True]


def test_ten_thousand_channels(worker):
    number = worker.execute(
        "l = [channel.gateway.newchannel() for i in range(2000)]\nchannel.send(l)\nfor c in l: c.send(c.id)\ndel l, c\nchannel.receive()"
    )
    channels = worker.receive(number)
    assert len(channels) == 2000
    for channel in channels[::100]:
        assert worker.next_frame(channel.number, [ITEM])
    assert worker.status()["executing"] == 1
