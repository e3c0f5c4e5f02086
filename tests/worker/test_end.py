"""How a worker ends: asked to or cut off; idle, waiting, computing or stubborn."""

import os
import time

import pytest

from coordinator import CLOSE

COMPUTING = "channel.send(1)\nwhile True: pass"
SLEEPING = "channel.send(1)\nimport time\ntime.sleep(60)"
STUBBORN = """
channel.send(1)
import time
while True:
    try: time.sleep(60)
    except KeyboardInterrupt: print("no")
"""


def gone(pid):
    """Whether a process has ended, waited for or not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


@pytest.mark.parametrize("before", ["", "channel.send(1)"])
def test_terminate_idle(worker, before):
    if before:
        worker.evaluate(before)
    began = time.monotonic()
    worker.terminate()
    assert worker.wait() == 0
    assert time.monotonic() - began < 3
    assert worker.stderr == b""


def test_terminate_wakes_who_waits(worker):
    numbers = [
        worker.execute("channel.send(1)\ntry: channel.receive()\nexcept EOFError: __import__('sys').stderr.write('end\\n')")
        for _ in range(3)
    ]
    for number in numbers:
        worker.receive(number)
    began = time.monotonic()
    worker.terminate()
    assert worker.wait() == 0
    assert time.monotonic() - began < 3
    assert worker.stderr == b"end\n" * 3


def test_terminate_lets_executions_end(worker):
    number = worker.execute("channel.send(1)\nimport time\ntime.sleep(0.2)\nprint('done')")
    worker.receive(number)
    worker.terminate()
    assert worker.wait() == 0
    assert worker.stderr == b"done\n"


@pytest.mark.parametrize("source", [COMPUTING, SLEEPING])
def test_terminate_interrupts_after_the_grace(worker, source):
    number = worker.execute(source)
    worker.receive(number)
    began = time.monotonic()
    worker.terminate(grace=0.2)
    assert worker.wait() == 0
    assert 0.15 < time.monotonic() - began < 4
    assert worker.stderr == b""


@pytest.mark.parametrize("source", [COMPUTING, SLEEPING, "channel.send(1)\nchannel.receive()"])
def test_cut_off_ends_what_runs(worker, source):
    number = worker.execute(source)
    worker.receive(number)
    began = time.monotonic()
    worker.cut_off()
    worker.wait()
    assert time.monotonic() - began < 4
    assert worker.stderr == b""


def test_cut_off_ends_the_stubborn(start):
    worker = start(group=False)
    number = worker.execute(STUBBORN)
    worker.receive(number)
    began = time.monotonic()
    worker.cut_off()
    assert worker.wait() == 1
    assert 1 < time.monotonic() - began < 5
    assert worker.stderr == b"no\n"


def test_cut_off_after_terminate_ends_the_stubborn(start):
    """A worker that had been asked to end, and did not, went on for fifteen seconds after its connection was gone."""
    worker = start(group=False)
    number = worker.execute(STUBBORN)
    worker.receive(number)
    worker.terminate(grace=600)
    worker.cut_off()
    assert worker.wait() == 1


def test_cut_off_ends_further_threads_that_are_stubborn(start):
    worker = start(group=False)
    first = worker.execute("channel.receive()")
    worker.receive(worker.execute(COMPUTING))
    worker.cut_off()
    assert worker.wait() == 1
    assert first == 1


@pytest.mark.parametrize(
    "source", ["channel.send(child.pid)", "channel.send(child.pid)\nwhile True: pass", "channel.send(child.pid); channel.receive()"]
)
def test_cut_off_takes_children_along(worker, source):
    number = worker.execute("import subprocess\nchild = subprocess.Popen(['sleep', '60'])\n" + source)
    child = worker.receive(number)
    worker.cut_off()
    worker.wait()
    deadline = time.monotonic() + 3
    while not gone(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert gone(child)


def test_the_group_is_only_killed_by_its_leader(start):
    """START may say `group` to a worker that leads none; nobody else's processes may die for that."""
    worker = start(start={"group": True}, group=False)
    number = worker.execute(
        "import subprocess\nchild = subprocess.Popen(['sleep', '60'], stdout=open('/dev/null', 'w'), stderr=subprocess.STDOUT)\nchannel.send(child.pid)"
    )
    child = worker.receive(number)
    worker.expect(CLOSE, number)
    worker.cut_off()
    assert worker.wait() == 0
    assert not gone(child)
    os.kill(child, 9)


def test_a_crash_loses_nothing_that_was_sent(worker):
    """A native worker had what the pipe did not take in a queue of its own."""
    source = "import os\nfor number in range(300): channel.send(b'x' * 1000)\nos._exit(3)"
    with worker.arrived:
        # Meanwhile nothing is read, and the pipe fills up.
        number = worker.execute(source)
        time.sleep(0.5)
    assert [worker.receive(number) for _ in range(300)] == [b"x" * 1000] * 300
    assert worker.wait() == 3


def test_exit_handlers_and_buffers_of_user_code(worker):
    source = """
import atexit, sys
atexit.register(lambda: sys.stdout.write("at exit"))
sys.stdout.write("no end of line, ")
"""
    worker.evaluate(source)
    worker.terminate()
    assert worker.wait() == 0
    assert worker.stderr == b"no end of line, at exit"


def test_exit_handlers_run_when_cut_off(worker):
    worker.evaluate("import atexit, sys\natexit.register(lambda: sys.stderr.write('at exit\\n'))")
    worker.cut_off()
    worker.wait()
    assert worker.stderr == b"at exit\n"


def test_threads_of_user_code_are_joined(worker):
    worker.evaluate("import threading, time\ndef f():\n  time.sleep(0.3)\n  print('thread')\nthreading.Thread(target=f).start()")
    worker.terminate()
    assert worker.wait() == 0
    assert worker.stderr == b"thread\n"


def test_a_broken_pipe_is_the_end(start):
    worker = start(group=False)
    number = worker.execute("channel.send(1)\ntry:\n  while True: channel.send(b'x' * 1000)\nexcept (IOError, OSError): print('gone')")
    worker.receive(number)
    process = worker.process
    process.stdin.close()
    os.close(os.dup(process.stdout.fileno()))
    worker.wait()
    assert b"Traceback" not in worker.stderr


def test_a_hundred_ends_are_clean(start):
    """Nothing is printed and no thread is in the way, however the end falls."""
    for source in ("", "channel.receive()", "import threading; c = channel.gateway.newchannel(); c.setcallback(print)") * 3:
        worker = start()
        if source:
            worker.execute("print = str\n" + source)
        worker.terminate()
        assert worker.wait() == 0
        assert worker.stderr == b""
