"""`Gateway.call`: a function at the worker, called as if it were here."""

import gc
import math
import os
import signal
import threading

import pytest

import farexec


def area(width, height=2):
    return width * height


def fail_with(text):
    raise ValueError(text)


def pid():
    import os

    return os.getpid()


def in_main_thread():
    import threading

    return threading.current_thread().name == "MainThread"


def test_functions_are_called_with_arguments_and_names(gateway):
    assert gateway.call(area, 3) == 6
    assert gateway.call(area, 3, height=5) == 15
    assert gateway.call("posixpath:join", "a", "b") == "a/b"
    assert gateway.call(math.factorial, 20) == math.factorial(20)
    assert gateway.call(area, [None], height=3) == [None] * 3


def test_what_a_function_raises_says_where_and_spoils_nothing(gateway):
    with pytest.raises(farexec.RemoteError, match="ValueError: no such thing") as error:
        gateway.call(fail_with, "no such thing")
    assert "test_call.py" in str(error.value) and "mapper" not in str(error.value)
    with pytest.raises(farexec.RemoteError, match="missing|takes exactly|takes at least"):
        gateway.call(area)
    with pytest.raises(farexec.RemoteError, match="ImportError|ModuleNotFoundError"):
        gateway.call("no_such_module:function")
    with pytest.raises(farexec.RemoteError, match="SystemExit"):
        gateway.call("sys:exit", "with a reason")
    assert gateway.call(area, 1) == 2


def test_what_cannot_be_sent_is_refused_on_either_side(gateway):
    with pytest.raises(farexec.DumpError, match=r"data\[1\]: object of type `object`"):
        gateway.call(area, 1, object())
    with pytest.raises(farexec.RemoteError, match="DumpError.*object"):
        gateway.call("builtins:object" if gateway._rinfo().version_info[0] > 2 else "__builtin__:object")
    assert gateway.call(area, 1) == 2


def test_what_is_no_function_is_refused_here(gateway):
    for wrong in ("area", "module:", ":name", lambda: 1):
        with pytest.raises(ValueError, match="module:name|lambda"):
            gateway.call(wrong)
    surrounding = 1

    def closure():
        return surrounding

    with pytest.raises(ValueError, match="closure uses surrounding"):
        gateway.call(closure)


def test_calls_from_threads_run_at_the_same_time(gateway):
    def meet(count):
        import sys
        import threading

        common = sys.__dict__.setdefault("test_call", {})
        lock, event = common.setdefault("lock", threading.Lock()), common.setdefault("event", threading.Event())
        with lock:
            common["here"] = common.get("here", 0) + 1
            if common["here"] == count:
                event.set()
        event.wait(20)
        return event.is_set()

    results = []
    threads = [threading.Thread(target=lambda: results.append(gateway.call(meet, 5))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 5
    channels = gateway.remote_status().numchannels
    for _ in range(20):
        gateway.call(area, 1)
    assert gateway.remote_status().numchannels == channels == 5


def test_functions_come_and_go(gateway):
    for number in range(50):
        namespace = {}
        text = f"def function(x):\n    return x + {number}\n"
        path = f"<function {number}>"
        exec(compile(text, path, "exec"), namespace)
        import linecache

        linecache.cache[path] = len(text), None, text.splitlines(True), path
        assert gateway.call(namespace["function"], 1) == 1 + number
    del namespace
    gc.collect()
    assert len(gateway._functions) == 0
    assert gateway.remote_status().numchannels == 1


def test_a_codec_does_not_get_in_between(gateway, group):
    gateway.setcodec("pickle")
    assert gateway.call(area, 3) == 6
    assert list(group.map(area, [1, 2, 3])) == [2, 4, 6]
    channel = gateway.remote_exec("channel.send(channel.receive() + 1j)")
    channel.send(1)
    assert channel.receive() == 1 + 1j


def test_a_worker_that_ends_is_told_of(gateway):
    assert gateway.call(area, 1) == 2
    with pytest.raises(EOFError, match=gateway.id):
        gateway.call("os:_exit", 7)
    gateway.join(20)
    with pytest.raises(OSError, match=gateway.id):
        gateway.call(area, 1)


def test_a_call_that_is_interrupted_leaves_the_gateway_as_it_was(gateway):
    class Interruption(Exception):
        pass

    def handler(*_):
        raise Interruption

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        with pytest.raises(Interruption):
            gateway.call("time:sleep", 3)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert gateway.call(area, 4) == 8


def test_the_first_call_has_the_main_thread_if_it_is_free(group):
    gateway = group.makegateway("popen//execmodel=thread")
    assert gateway.call(in_main_thread) is True
    assert gateway.call(in_main_thread) is True
    assert gateway.remote_exec("channel.send(1)").receive() == 1


def test_calls_leave_the_main_thread_to_executions_where_it_is_for_one_at_a_time(group):
    gateway = group.makegateway("popen//execmodel=main_thread_only")
    assert gateway.call(in_main_thread) is False
    for _ in range(2):
        channel = gateway.remote_exec("import threading; channel.send(threading.current_thread().name)")
        assert channel.receive() == "MainThread"
        channel.waitclose()
    assert gateway.call(area, 4) == 8


@pytest.mark.local("what is counted is open in this process for a worker on this machine")
def test_a_gateway_that_was_called_leaves_nothing_behind(open_descriptors):
    def round_of_calls():
        with farexec.Group(["popen"] * 3) as group:
            assert len({gateway.call(pid) for gateway in group}) == 3

    round_of_calls()
    before = open_descriptors()
    for _ in range(3):
        round_of_calls()
    gc.collect()
    assert len(open_descriptors()) <= len(before)
