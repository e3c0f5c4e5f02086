"""However a program ends, nothing of it stays behind: normal end, exception, signals, Ctrl-C."""

import signal
import subprocess
import sys
import time

import pytest

import farexec
from processes import wait_until_gone

WORK = """
import farexec, sys
group = farexec.Group(["popen"] * 3)
pids = [gateway.pid for gateway in group]
children = group.remote_exec("import subprocess; channel.send(subprocess.Popen(['sleep', '600']).pid)").receive_each()
idle, blocked, busy = group
waiting = blocked.remote_exec("channel.receive()")
busy.remote_exec("channel.send(1)\\nwhile True: pass").receive()
print(*pids, *children, flush=True)
"""

ENDINGS = {
    "normal end": "",
    "exit": "sys.exit(3)",
    "exception": "raise RuntimeError('deliberate')",
    "blocked": "waiting.receive()",
    "blocked on a queue": "farexec.MultiChannel([waiting]).make_receive_queue().get()",
    "blocked in waitclose": "waiting.waitclose()",
}


def start(ending):
    program = subprocess.Popen(
        [sys.executable, "-c", WORK + ENDINGS[ending]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    pids = [int(word) for word in program.stdout.readline().split()]
    assert len(pids) == 6, program.stderr.read()
    return program, pids


@pytest.mark.parametrize(("ending", "status"), [("normal end", 0), ("exit", 3), ("exception", 1)])
def test_a_program_that_ends_by_itself(ending, status):
    program, pids = start(ending)
    _, errors = program.communicate(timeout=20)
    assert program.returncode == status
    assert "deliberate" in errors if ending == "exception" else errors == ""
    wait_until_gone(*pids)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_program_that_is_killed(number):
    program, pids = start("blocked")
    time.sleep(0.2)
    program.send_signal(number)
    program.communicate(timeout=20)
    assert program.returncode == -number
    wait_until_gone(*pids)


@pytest.mark.parametrize("ending", ["blocked", "blocked on a queue", "blocked in waitclose"])
def test_ctrl_c_interrupts_every_blocking_call(ending):
    program, pids = start(ending)
    time.sleep(0.3)
    began = time.monotonic()
    program.send_signal(signal.SIGINT)
    _, errors = program.communicate(timeout=20)
    assert "KeyboardInterrupt" in errors
    assert errors.count("Traceback") == 1, "workers print no tracebacks of a Ctrl-C: " + errors
    assert time.monotonic() - began < 8
    wait_until_gone(*pids)


def test_an_unused_import_starts_nothing_and_ends_at_once():
    program = "import farexec, threading, os; assert threading.active_count() == 1; print(len(os.listdir('/proc/self/task')))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert (result.stdout, result.stderr, result.returncode) == ("1\n", "", 0)


TIDYING = """
import farexec, sys, time
group = farexec.Group(["popen//grace=8"])
group[0].remote_exec(
    '''
    import atexit, time
    def tidy():
        time.sleep(2)
        open(path, "w").write("tidy")
    atexit.register(tidy)
    '''.replace("path", repr(sys.argv[1]))
).waitclose()
"""


@pytest.mark.parametrize("end", ["", "group.terminate()", "del group", "raise SystemExit(0)"])
def test_a_worker_with_grace_is_not_killed_while_it_tidies_up(tmp_path, end):
    """Workers were killed while their exit handlers ran, and what they were to save (coverage, above all) was lost."""
    file = tmp_path / "file"
    result = subprocess.run([sys.executable, "-c", TIDYING + end, str(file)], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    assert file.read_text() == "tidy"


def test_a_worker_that_is_killed_while_it_ends_is_reported():
    program = """
import farexec
group = farexec.Group(["popen//id=tidy"])
group[0].remote_exec("import atexit, time; atexit.register(time.sleep, 600)").waitclose()
group.terminate(timeout=0.5)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0
    assert "worker tidy (pid" in result.stderr and "did not end in time and was killed (it had 0.5 seconds" in result.stderr


@pytest.mark.parametrize("model", ["thread", "main_thread_only", "gevent", "eventlet"])
def test_what_runs_is_interrupted_after_its_grace(tmp_path, model):
    program = """
import farexec, sys, time
group = farexec.Group([f"popen//grace=0.3//execmodel={sys.argv[2]}"])
channel = group[0].remote_exec(
    '''
    try:
        channel.send(1)
        channel.gateway.execmodel.sleep(600)
    except KeyboardInterrupt:
        open(path, "w").write("interrupted")
    '''.replace("path", repr(sys.argv[1]))
)
channel.receive()
began = time.monotonic()
group.terminate(timeout=20)
assert 0.3 <= time.monotonic() - began < 10
"""
    file = tmp_path / "file"
    result = subprocess.run([sys.executable, "-c", program, str(file), model], capture_output=True, text=True, timeout=60)
    # eventlet warns of its own end.
    said = "" if model == "eventlet" else result.stderr
    assert (result.returncode, said) == (0, ""), result.stderr
    assert file.read_text() == "interrupted"


LAST_DEEDS = {
    "an exit handler": "import atexit; atexit.register(open(path, 'w').write, 'done')",
    "a file that was not closed": "sys.kept = open(path, 'w'); sys.kept.write('done')",
    "an object with something to do": """
class Kept:
    def __del__(self, open=open, path=path):
        with open(path, 'w') as file:
            file.write('done')
sys.kept = Kept()
""",
    "the same without a trace of it for the collector": """
class Kept:
    __slots__ = ()
    def __del__(self, open=open, path=path):
        with open(path, 'w') as file:
            file.write('done')
sys.kept = Kept()
""",
    "a generator in the middle": """
def steps(open=open, path=path):
    try:
        yield
    finally:
        with open(path, 'w') as file:
            file.write('done')
sys.kept = steps()
next(sys.kept)
""",
    "a thread": "import threading, time; threading.Thread(target=lambda: (time.sleep(0.5), open(path, 'w').write('done'))).start()",
    "a weak reference": """
import _weakref
class Kept:
    pass
sys.kept = Kept()
sys.reference = _weakref.ref(sys.kept, lambda _, open=open: open(path, 'w').write('done'))
del sys.kept
""",
}


@pytest.mark.parametrize("start", ["template", "spawn"])
@pytest.mark.parametrize("deed", LAST_DEEDS)
def test_what_is_done_at_the_end_of_an_interpreter_is_done(tmp_path, start, deed, group):
    """A worker that ended as forks of multiprocessing do, without the end of an interpreter, lost what was to be written then."""
    file = tmp_path / "file"
    source = f"import sys; path = {str(file)!r}\n{LAST_DEEDS[deed]}"
    group.makegateway(f"popen//start={start}").remote_exec(source).waitclose()
    group.terminate(timeout=20)
    assert file.read_text() == "done"


def test_lines_that_were_printed_last_come_before_the_end():
    """What a worker printed at last was handed over after `terminate` had returned: behind a socket, in one of seven runs."""
    for _ in range(20):
        lines = []
        with farexec.Group(["popen//id=relay"]) as group:
            group.set_output(lambda *line, to=lines: to.append(line))
            far = group.makegateway("popen//via=relay//id=far//stdout=forward")
            far.remote_exec("print(1); print(2)").waitclose()
            group.terminate(timeout=5)
            assert lines == [("far", "stdout", "1"), ("far", "stdout", "2")]
