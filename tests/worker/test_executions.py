"""Executions: where they run, what they see, how they end, and what is answered while they compute."""

import os
import signal
import time

import pytest

from coordinator import CLOSE, CLOSE_ERROR, EXECUTE, ITEM, PING, PONG, WorkerEnded


def texts(value):
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (list, tuple)):
        return type(value)(texts(part) for part in value)
    return value


WHERE = "import threading; channel.send(threading.current_thread().__class__.__name__ == '_MainThread')"


@pytest.mark.parametrize("execmodel", ["thread", "main_thread_only"])
def test_one_after_the_other_runs_in_the_main_thread(start, execmodel):
    worker = start(start={"execmodel": execmodel})
    for _ in range(50):
        assert worker.evaluate(WHERE) == [True]
    assert worker.status()["execmodel"] == execmodel


def test_further_ones_run_concurrently(worker):
    first = worker.execute("channel.send(1)\nother = channel.receive()\nchannel.send(other)")
    worker.receive(first)
    second = worker.execute("import threading\n" + WHERE + "\nchannel.send(channel.receive())")
    assert worker.receive(second) is False
    assert worker.status()["executing"] == 2
    worker.send(second, 2)
    assert worker.receive(second) == 2
    worker.expect(CLOSE, second)
    worker.send(first, 3)
    assert worker.receive(first) == 3
    worker.expect(CLOSE, first)
    assert worker.evaluate(WHERE) == [True]
    worker.terminate()
    assert worker.wait() == 0
    assert worker.stderr == b""


def test_main_thread_only_refuses_a_second_one(start):
    worker = start(start={"execmodel": "main_thread_only"})
    first = worker.execute("channel.receive()")
    second = worker.execute("channel.send(1)")
    assert "main_thread_only" in worker.expect(CLOSE_ERROR, second)["text"]
    worker.send(first, 1)
    worker.expect(CLOSE, first)
    assert worker.evaluate("channel.send(2)") == [2]


def test_threading_knows_the_main_thread_wherever_it_is_imported_first(worker):
    """Imported first in a second thread, `threading` would take that for the main one, and fail at exit."""
    first = worker.execute("channel.receive()\n" + WHERE)
    assert worker.evaluate(WHERE) == [False]
    worker.send(first, 1)
    assert worker.receive(first) is True
    worker.expect(CLOSE, first)
    worker.terminate()
    assert worker.wait() == 0
    assert worker.stderr == b""


def test_calls_and_arguments(worker):
    source = "def function(channel, a, b=2):\n    channel.send([a, b, __name__])\n"
    number = worker.execute(source, call="function", kwargs={"a": [1]}, file="/nowhere/module.py", line=10)
    assert texts(worker.receive(number)) == [[1], 2, "__channelexec__"]
    worker.expect(CLOSE, number)
    assert worker.evaluate("channel.send([a, b])", kwargs={"a": 1, "b": {"c": 2}})[0][0] == 1


def test_tracebacks_name_file_and_line_and_show_the_source(worker):
    source = "def function(channel):\n    inner()\n\n\ndef inner():\n    raise ValueError('åäö')\n"
    number = worker.execute(source, call="function", file="/nowhere/module.py", line=41)
    error = worker.expect(CLOSE_ERROR, number)
    assert error["text"].startswith('Traceback (most recent call last):\n  File "/nowhere/module.py", line 42, in function\n    inner()\n')
    assert '  File "/nowhere/module.py", line 46, in inner\n    raise ValueError(' in error["text"]
    assert error["text"].endswith("ValueError: åäö\n")
    assert (error["type"], error["message"]) == ("ValueError", "åäö")
    assert [frame[:3] for frame in error["frames"]] == [("/nowhere/module.py", 42, "function"), ("/nowhere/module.py", 46, "inner")]
    assert error["frames"][0][3] == "inner()"


def test_an_error_tells_of_its_cause_and_that_of_its_own(worker):
    source = "try:\n    try:\n        {}['x']\n    except KeyError:\n        1 / 0\nexcept Exception as error:\n    raise ValueError('last') from error"
    if worker.hello["version"][0] < 3:
        source = source.replace(" from error", "")
    error = worker.expect(CLOSE_ERROR, worker.execute(source))
    if worker.hello["version"][0] < 3:
        assert "cause" not in error
        return
    cause = error["cause"]
    assert (error["type"], cause["type"], cause["cause"]["type"]) == ("ValueError", "ZeroDivisionError", "KeyError")
    assert "cause" not in cause["cause"]
    assert [frame[1] for frame in cause["frames"]] == [5]
    assert "KeyError" in error["text"] and "KeyError" not in cause["text"]


def test_causes_without_number_are_cut_off(worker):
    source = "error = None\nfor number in range(100):\n    try: raise ValueError(number)\n    except ValueError as new:\n        new.__cause__, error = error, new\nraise error"
    error = worker.expect(CLOSE_ERROR, worker.execute(source))
    for number in range(99, 99 - 10, -1):
        if worker.hello["version"][0] < 3:
            break
        assert error["message"] == str(number)
        error = error["cause"]
    assert "cause" not in error


def test_notes(worker):
    error = worker.expect(CLOSE_ERROR, worker.execute("error = ValueError(1)\nerror.__notes__ = ['one', 'two']\nraise error"))
    assert error["notes"] == ["one", "two"]


def test_frames_of_the_worker_are_left_out(worker):
    number = worker.execute("class X(object): pass\nchannel.send([X()])")
    error = worker.expect(CLOSE_ERROR, number)
    assert "farexec worker" not in error["text"]
    assert "During handling" not in error["text"]
    assert error["type"] == "farexec.DumpError"
    assert [frame[0] for frame in error["frames"]] == ["<remote exec>"]


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        ("a b c", "SyntaxError", ['File "<remote exec>", line 1', "a b c"]),
        ("pass\nx = = 1", "SyntaxError", ["line 2"]),
        ("raise SystemExit(3)", "SystemExit", ["SystemExit: 3"]),
        ("import sys; sys.exit()", "SystemExit", ["SystemExit"]),
        ("raise KeyboardInterrupt('x')", "KeyboardInterrupt", ["KeyboardInterrupt"]),
        ("class E(Exception):\n  def __str__(self): return 1/0\nraise E", "__channelexec__.E", ["E"]),
        ("raise channel.RemoteError('far')", "farexec.RemoteError", ["far"]),
        ("x" + "\x00", "", ["null"]),
    ],
)
def test_however_it_fails_the_worker_goes_on(worker, source, kind, words):
    number = worker.execute(source)
    error = worker.expect(CLOSE_ERROR, number)
    assert kind in error["type"]
    for word in words:
        assert word in error["text"]
    assert worker.evaluate("channel.send(1)") == [1]


def test_source_with_an_encoding_declared(worker):
    assert worker.evaluate("# -*- coding: utf-8 -*-\nchannel.send(u'åäö')") == ["åäö"]
    assert worker.evaluate("#!/usr/bin/python\n# coding: latin-1\nchannel.send(u'åäö')") == ["åäö"]


def test_execution_without_text_is_a_protocol_error(worker):
    worker.send_frame(EXECUTE, 1, b"JQ", 1)
    assert "source" in worker.expect(CLOSE_ERROR, 1)["text"]


def test_answers_while_computing(worker):
    number = worker.execute("channel.send(1)\nimport time\nend = time.time() + 30\nwhile time.time() < end: pass")
    worker.receive(number)
    for _ in range(3):
        began = time.monotonic()
        worker.send_frame(PING, 0, b"payload")
        assert worker.expect(PONG, 0) == b"payload"
        status = worker.status()
        assert time.monotonic() - began < 3
        assert (status["channels"], status["executing"], status["queued"]) == (1, 1, 0)
        time.sleep(0.05)


def test_answers_while_idle(worker):
    assert worker.status() == {"channels": 0, "executing": 0, "queued": 0, "execmodel": "thread", "cwd": os.getcwd()}


def test_sixty_four_threads(worker):
    """Each thread waits on a channel of its own; whoever reads must wake the right one, and none may be forgotten."""
    numbers = [worker.execute("while True:\n  item = channel.receive()\n  channel.send(item)\n  if item == 20: break") for _ in range(64)]
    for item in range(21):
        for number in numbers:
            worker.send(number, item)
    for number in numbers:
        for item in range(21):
            assert worker.receive(number) == item
        worker.expect(CLOSE, number)


def test_ping_pong_between_threads(worker):
    """One item at a time, in turn: every reader hands over to the next."""
    numbers = [worker.execute("for item in channel: channel.send(item)") for _ in range(8)]
    for item in range(100):
        number = numbers[item % 8]
        worker.send(number, item)
        assert worker.receive(number) == item


def test_many_threads_receive_from_one_channel(worker):
    source = """
import threading
got = []
def consume():
    while True:
        try: item = channel.receive()
        except EOFError: return
        got.append(item)
threads = [threading.Thread(target=consume) for i in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
channel.send(sorted(got) == list(range(2000)))
"""
    number = worker.execute(source)
    worker.write(b"".join(worker.item_frame(number, item) for item in range(2000)))
    worker.send_frame(0x13, number)
    assert worker.receive(number) is True


def test_waiting_with_a_time_limit_while_another_reads(worker):
    source = """
import threading, time
c = channel.gateway.newchannel()
reader = threading.Thread(target=lambda: channel.receive())
reader.daemon = True
reader.start()
time.sleep(0.1)
began = time.time()
try: c.receive(0.3)
except channel.TimeoutError: channel.send(time.time() - began)
"""
    number = worker.execute(source)
    assert 0.25 < worker.receive(number) < 3


def test_an_idle_worker_does_not_wake_up(worker):
    """A thread blocked in `receive` costs nothing: no background thread may tick meanwhile."""
    number = worker.execute("channel.receive()")
    worker.status()
    time.sleep(0.1)

    def switches():
        total = 0
        for task in os.listdir(f"/proc/{worker.process.pid}/task"):
            with open(f"/proc/{worker.process.pid}/task/{task}/status") as status:
                total += sum(int(line.split()[1]) for line in status if "ctxt_switches" in line)
        return total

    before = switches()
    time.sleep(0.5)
    assert switches() - before < 20
    worker.send(number, 1)
    worker.expect(CLOSE, number)
    before = switches()
    time.sleep(0.5)
    assert switches() - before < 20


def test_a_signal_handler_that_raises_interrupts_receive(worker):
    """The role of the reader must be free again, and the next item not lost."""
    source = """
import signal
class Alarm(Exception): pass
def handler(number, frame): raise Alarm
signal.signal(signal.SIGALRM, handler)
for timeout in (None, 10):
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try: channel.receive(timeout)
    except Alarm: channel.send("alarm")
    channel.send(channel.receive())
"""
    number = worker.execute(source)
    for item in (1, 2):
        assert texts(worker.receive(number)) == "alarm"
        worker.send(number, item)
        assert worker.receive(number) == item


def test_a_signal_handler_that_raises_while_idle(worker):
    source = """
import signal
def handler(number, frame): raise RuntimeError
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.05)
"""
    worker.evaluate(source)
    time.sleep(0.2)
    assert worker.evaluate("channel.send(1)") == [1]
    worker.terminate()
    worker.wait()
    assert worker.stderr == b"farexec worker: RuntimeError outside of any execution\n"


def test_forked_children_leave_the_protocol_alone(worker):
    source = """
import os, sys
child = os.fork()
if child == 0:
    try: channel.send("from the child")
    except OSError: os._exit(3)
    os._exit(4)
channel.send(os.waitpid(child, 0)[1] >> 8)
child = os.fork()
if child:
    channel.send(os.waitpid(child, 0)[1])
"""
    assert worker.evaluate(source) == [3, 0]
    assert worker.evaluate("channel.send(1)") == [1]


def test_a_forked_child_does_not_hold_the_connection(start):
    worker = start()
    number = worker.execute("import os, time\nif os.fork() == 0:\n  time.sleep(60)\nelse:\n  channel.send(1)\n  channel.receive()")
    worker.receive(number)
    os.kill(worker.process.pid, signal.SIGKILL)
    with pytest.raises(WorkerEnded):
        worker.next_frame(number, [ITEM])


def test_multiprocessing(worker):
    source = """
import multiprocessing, os, sys
methods = multiprocessing.get_all_start_methods() if sys.version_info[0] > 2 else [None]
for method in methods:
    context = multiprocessing.get_context(method) if method else multiprocessing
    pool = context.Pool(2)
    channel.send(pool.map(abs, [-1, -2]))
    pool.close()
    pool.join()
"""
    answers = worker.evaluate(source)
    assert answers
    assert all(answer == [1, 2] for answer in answers)
    worker.terminate()
    assert worker.wait() == 0
