"""The logger `farexec`: what the core has to say gets there, from whatever thread, and nothing waits for it."""

import logging
import os
import signal
import subprocess
import sys
import threading

import pytest

import farexec
from processes import wait_until

pytestmark = pytest.mark.local("workers are killed by signals")


def records(caplog, level):
    return [record.getMessage() for record in caplog.records if record.name == "farexec" and record.levelno == level]


def test_a_worker_that_is_killed_unasked_is_a_warning(group, caplog):
    gateway = group.makegateway("popen//id=one")
    os.kill(gateway.pid, signal.SIGKILL)
    gateway.join()
    wait_until(lambda: records(caplog, logging.WARNING) != [])
    [text] = records(caplog, logging.WARNING)
    assert text.startswith(f"worker one (pid {gateway.pid}) was ended by signal 9 (SIGKILL)")


def test_what_ends_as_asked_is_no_warning(group, caplog):
    with caplog.at_level(logging.DEBUG, "farexec"):
        gateway = group.makegateway("popen//id=one")
        pid = gateway.pid
        group.terminate(timeout=5)
        wait_until(lambda: f"worker one (pid {pid}) ended as asked" in records(caplog, logging.DEBUG))
    assert any(text.startswith("worker started (gateway: one, spec: ") for text in records(caplog, logging.DEBUG))
    assert records(caplog, logging.WARNING) == []


def test_the_logger_is_asked_for_its_level_at_each_start(group, caplog):
    group.makegateway()
    with caplog.at_level(logging.DEBUG, "farexec"):
        group.makegateway("popen//id=second")
        wait_until(lambda: any("gateway: second" in text for text in records(caplog, logging.DEBUG)))
    assert not any("gateway: gw0" in text for text in records(caplog, logging.DEBUG))


def test_a_handler_that_stays_keeps_no_gateway_up(group):
    """The thread that reads for everybody must not wait for whoever logs."""
    came, gate = threading.Event(), threading.Event()

    class Slow(logging.Handler):
        def emit(self, record):
            came.set()
            gate.wait()

    handler = Slow()
    logging.getLogger("farexec").addHandler(handler)
    try:
        killed, other = group.makegateway(), group.makegateway()
        os.kill(killed.pid, signal.SIGKILL)
        assert came.wait(10)
        # Callbacks are fed by that thread.
        queue = farexec.MultiChannel([other.remote_exec("channel.send(1)")]).make_receive_queue(endmarker=None)
        assert [queue.get(timeout=10)[1], queue.get(timeout=10)[1]] == [1, None]
        second = group.makegateway()
        os.kill(second.pid, signal.SIGKILL)
        second.join()
    finally:
        gate.set()
        logging.getLogger("farexec").removeHandler(handler)


ENDING = """
import logging, os, signal, sys, threading
import farexec

logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
group = farexec.Group(["popen"] * 20)
for gateway in group:
    os.kill(gateway.pid, signal.SIGKILL)
for gateway in group:
    gateway.join()
"""


@pytest.mark.parametrize("end", ["", "os._exit(0)", "threading.Thread(target=group[0].join).start()"])
def test_a_program_that_ends_at_once_tells_all(end):
    """What is queued is handed on before the interpreter goes, and its end is no crash."""
    code = ENDING + end
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stderr.splitlines()
    assert all(line.startswith("WARNING farexec worker gw") for line in lines), ran.stderr
    if not end.startswith("os"):
        assert len(lines) == 20


def test_a_fork_has_a_log_of_its_own(group):
    """The thread that hands events on is not in the child of a fork, which makes another."""
    killed = group.makegateway()
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            handler = logging.StreamHandler(os.fdopen(write, "w"))
            logging.getLogger("farexec").addHandler(handler)
            with farexec.Group(["popen//id=inner"]) as inner:
                os.kill(inner[0].pid, signal.SIGKILL)
                inner[0].join()
                with os.fdopen(read) as lines:
                    status = 0 if "worker inner" in lines.readline() else 2
        finally:
            os._exit(status)
    os.close(write)
    os.close(read)
    assert os.waitpid(child, 0)[1] == 0


def test_nothing_is_printed_where_no_log_was_set_up():
    code = ENDING.replace("logging.basicConfig", "dict")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
