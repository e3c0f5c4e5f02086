"""`farexec.Executor`: the contract of `concurrent.futures`, by CPython's own tests of it and by ours."""

import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import farexec
import interpreters
from processes import is_running

HERE = Path(__file__).parent


def area(width, height):
    return width * height


def pid_after(seconds):
    import os
    import time

    time.sleep(seconds)
    return os.getpid()


def die(status):
    import os

    os._exit(status)


def raises(name, *arguments):
    import builtins

    raise getattr(builtins, name)(*arguments)


@pytest.fixture
def executor():
    with farexec.Executor(2) as made:
        yield made


@pytest.mark.local("it is about this side")
@pytest.mark.timeout(180)
def test_cpythons_own_tests():
    """Those that cannot apply stand in executor_contract.py, each with its reason."""
    python = interpreters.find_interpreter("3.13")
    if python is None or subprocess.run([python, "-c", "import test.test_concurrent_futures"], capture_output=True).returncode:
        pytest.skip("there is no CPython 3.13 with its own tests")
    package = str(Path(farexec.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([package, str(HERE)])}
    run = subprocess.run([python, HERE / "executor_contract.py"], env=environment, capture_output=True, text=True, timeout=170)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout[run.stdout.index("{") :])
    assert (told["run"], len(told["left out"]), told["skipped"]) == (30, 5, 0)


def test_what_a_function_raises_is_of_its_type_if_that_is_a_builtin_one(executor):
    error = executor.submit(raises, "ValueError", "a text", 2).exception()
    assert isinstance(error, farexec.RemoteError) and isinstance(error, ValueError)
    assert error.type_name == "ValueError" and "a text" in str(error) and error.frames[-1][2] == "raises"
    with pytest.raises(ZeroDivisionError):
        executor.submit(divmod, 1, 0).result()
    error = executor.submit(raises, "FileNotFoundError", 2, "gone").exception()
    assert isinstance(error, FileNotFoundError) and "[Errno 2] gone" in str(error)
    for name, *arguments in [("StopIteration",), ("UnicodeDecodeError", "utf-8", b"x", 0, 1, "bad"), ("SystemExit", 3)]:
        error = executor.submit(raises, name, *arguments).exception()
        assert type(error) is farexec.RemoteError and error.type_name == name
    error = executor.submit("json:loads", "{").exception()
    assert type(error) is farexec.RemoteError and error.type_name == "json.decoder.JSONDecodeError"


def test_what_cannot_be_sent_is_told(executor):
    with pytest.raises(ValueError, match="lambda"):
        executor.submit(lambda: 1)
    assert isinstance(executor.submit(area, object(), 1).exception(), farexec.DumpError)
    assert "DumpError" in str(executor.submit("builtins:object").exception())
    assert executor.submit(area, 6, height=7).result() == 42


def test_a_worker_that_dies_is_replaced(executor):
    before = executor.submit(pid_after, 0).result()
    error = executor.submit(die, 7).exception()
    assert isinstance(error, farexec.WorkersDied) and "4 workers died" in str(error) and "exited with status 7" in str(error)
    assert set(executor.map(pid_after, [0.05] * 10)) and is_running(os.getpid())
    assert executor.submit(area, 6, 7).result() == 42 and before


def test_a_call_that_takes_too_long_is_ended():
    with farexec.Executor(1, timeout=0.5) as executor:
        slow, quick = executor.submit(pid_after, 60), executor.submit(pid_after, 0)
        assert isinstance(slow.exception(), farexec.TimeoutError) and isinstance(slow.exception(), TimeoutError)
        assert isinstance(quick.result(), int)


def test_without_workers_it_is_broken(group):
    gateway = group.makegateway("popen//python=" + sys.executable)
    executor = farexec.Executor(group=group, retries=0)
    assert executor.submit(pid_after, 0).result() == gateway.pid
    under_way = executor.submit(pid_after, 60)
    gateway.exit()
    os.kill(gateway.pid, signal.SIGKILL)
    waiting = executor.submit(area, 6, 7)
    # A gateway that was asked to leave is not replaced.
    for future in (under_way, waiting):
        with pytest.raises(concurrent.futures.BrokenExecutor, match="no workers"):
            future.result()
    with pytest.raises(concurrent.futures.BrokenExecutor, match="no workers"):
        executor.submit(area, 6, 7)
    executor.shutdown()


def test_what_no_worker_has_can_be_cancelled():
    with farexec.Executor(1, prefetch=1) as executor:
        at = executor.submit(pid_after, 0.5)
        rest = [executor.submit(pid_after, 0) for _ in range(5)]
        called = []
        rest[0].add_done_callback(called.append)
        assert all(future.cancel() for future in rest)
        assert called == rest[:1] and isinstance(at.result(), int)


def test_the_group_of_somebody_else_goes_on(group):
    group.makegateway()
    group.makegateway()
    with farexec.Executor(group=group) as executor:
        pids = set(executor.map(pid_after, [0.1] * 8))
    assert pids == {gateway.pid for gateway in group} and all(gateway.alive for gateway in group)
    with farexec.Executor(2) as executor:
        pids = set(executor.map(pid_after, [0.1] * 8))
    assert len(pids) == 2 and not any(map(is_running, pids))


def test_no_more_are_submitted_than_the_buffer_has_room_for(executor):
    taken = []

    def numbers():
        for number in range(100):
            taken.append(number)
            yield number

    results = executor.map(abs, numbers(), buffersize=5)
    assert len(taken) == 5
    assert [next(results) for _ in range(10)] == list(range(10)) and len(taken) == 15
    assert list(results) == list(range(10, 100))
    assert len(list(executor.map(abs, range(100), chunksize=7))) == 100
    for name, value, error in [("buffersize", 0, ValueError), ("buffersize", "5", TypeError), ("chunksize", 0, ValueError)]:
        with pytest.raises(error, match=name):
            executor.map(abs, [1], **{name: value})


def test_what_is_wrong_is_refused(group):
    with pytest.raises(ValueError, match="max_workers goes with spec"):
        farexec.Executor(2, group=group)
    with pytest.raises(RuntimeError, match="no workers"):
        farexec.Executor(group=group)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        farexec.Executor(1, initializer=1)
    with pytest.raises(ValueError, match="retries is 0 or more"):
        farexec.Executor(1, retries=-1)


def test_many_threads_submit_at_once(executor):
    results = [[] for _ in range(8)]

    def submit(mine):
        futures = [executor.submit(area, number, 2) for number in range(500)]
        mine.extend(future.result() for future in futures)

    threads = [threading.Thread(target=submit, args=(mine,)) for mine in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[number * 2 for number in range(500)]] * 8


PROGRAM = """
import farexec, os, sys

def after(seconds, text):
    import time
    time.sleep(seconds)
    return text

if __name__ == "__main__":
    executor = farexec.Executor(2)
    for text in ("a", "b", "c", "d", "e"):
        executor.submit(after, 0.2, text).add_done_callback(lambda future: print(future.result(), flush=True))
"""

ENDINGS = {
    "forgotten": "    del executor",
    "kept": "",
    "shut down, and not waited for": "    executor.shutdown(wait=False)",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_was_submitted_is_done_before_the_program_ends(tmp_path, ending):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM + ENDINGS[ending])
    run = subprocess.run([sys.executable, path], capture_output=True, text=True)
    assert sorted(run.stdout.split()) == ["a", "b", "c", "d", "e"] and (run.returncode, run.stderr) == (0, "")


def test_nothing_is_submitted_when_the_program_has_ended(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM + "    import atexit; atexit.register(lambda: print(executor.submit(after, 0, 'late')))")
    run = subprocess.run([sys.executable, path], capture_output=True, text=True)
    assert "cannot schedule new futures after interpreter shutdown" in run.stderr and "late" not in run.stdout


def test_a_forked_child_has_no_part_in_it(executor):
    pid = os.fork()
    if pid == 0:
        try:
            executor.submit(area, 6, 7)
        except RuntimeError as error:
            os._exit(7 if "its parent's" in str(error) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert executor.submit(area, 6, 7).result() == 42


def test_every_interpreter_works(group, python):
    group.makegateway(f"popen//python={python}")
    with farexec.Executor(group=group, initializer="os:getcwd") as executor:
        assert executor.submit(area, 6, height=7).result() == 42
        assert isinstance(executor.submit(divmod, 1, 0).exception(), ZeroDivisionError)
