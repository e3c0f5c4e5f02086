"""The execution models gevent and eventlet, at either side: waits let other greenlets run, and nothing hangs."""

import subprocess
import sys
import textwrap

import pytest

import farexec

MODELS = ["gevent", "eventlet"]

# Beside what is waited for, a greenlet counts: were the thread blocked, it could not.
PRELUDE = """
import sys, time, threading
model = sys.argv[1]
if model == "gevent":
    import gevent
    spawn, sleep = gevent.spawn, gevent.sleep
    def join(greenlet): return greenlet.get()
    if "patched" in sys.argv:
        from gevent import monkey; monkey.patch_all()
else:
    import eventlet
    spawn, sleep = eventlet.spawn, eventlet.sleep
    def join(greenlet): return greenlet.wait()
    if "patched" in sys.argv:
        eventlet.monkey_patch()
import farexec

ticks = 0
def count():
    global ticks
    while True:
        sleep(0.01)
        ticks += 1
spawn(count)

def lets_others_run(function, *args):
    before = ticks
    result = function(*args)
    assert ticks - before >= 10, ("others did not run", function, ticks - before)
    return result

group = farexec.Group(execmodel=model)
"""

LATER = "import time\ntime.sleep(0.3)\n"

PROGRAMS = {
    "receive": f"""
        gateway = lets_others_run(lambda: [sleep(0.2), group.makegateway("popen//execmodel=thread")][1])
        assert lets_others_run(gateway.remote_exec({LATER!r} "channel.send(42)").receive) == 42
        began = time.monotonic()
        try:
            lets_others_run(gateway.remote_exec("channel.receive()").receive, 0.3)
            raise AssertionError("it is not in time")
        except farexec.TimeoutError:
            assert 0.3 <= time.monotonic() - began < 3
        try:
            lets_others_run(gateway.remote_exec({LATER!r} "1 / 0").receive)
            raise AssertionError("no error")
        except farexec.RemoteError as error:
            assert "ZeroDivisionError" in str(error)
        try:
            lets_others_run(gateway.remote_exec({LATER!r} "import os; os._exit(3)").receive)
            raise AssertionError("no end")
        except EOFError as error:
            assert "status 3" in str(error)
    """,
    "many at once": """
        gateway = group.makegateway("popen//execmodel=thread")
        source = "import time\\ntime.sleep(0.3)\\nchannel.send(channel.receive())"
        channels = [gateway.remote_exec(source) for _ in range(20)]
        greenlets = [spawn(channel.receive) for channel in channels]
        for number, channel in enumerate(channels):
            channel.send(number)
        assert [join(greenlet) for greenlet in greenlets] == list(range(20))
    """,
    "queue, waitclose, status, join": f"""
        for _ in range(3):
            group.makegateway("popen//execmodel=thread")
        channels = group.remote_exec({LATER!r} "channel.send(1)")
        queue = channels.make_receive_queue(endmarker=None)
        assert lets_others_run(queue.get)[1] == 1
        assert sorted(map(str, [queue.get(timeout=5)[1] for _ in range(5)])) == ["1", "1", "None", "None", "None"]
        lets_others_run(group.remote_exec({LATER!r}).waitclose)
        assert group[0].remote_status().numexecuting == 0
        group[0].remote_exec({LATER!r} "import os; os._exit(0)")
        lets_others_run(group[0].join)
    """,
    "callbacks": f"""
        gateway = group.makegateway("popen//execmodel=thread")
        here, got = threading.get_ident(), []
        answers = gateway.remote_exec("for item in channel: channel.send(item * 2)")
        def take(item):
            if item != "end":
                answers.send(item)
                got.append(answers.receive())  # a callback may wait
            got.append(item)
        channel = gateway.remote_exec({LATER!r} "for i in range(3): channel.send(i)")
        channel.setcallback(take, endmarker="end")
        lets_others_run(channel.waitclose)
        assert got == [0, 0, 2, 1, 4, 2, "end"], got
        failing = gateway.remote_exec("channel.send(1); channel.receive()")
        failing.setcallback(lambda item: 1 / 0)
        try:
            failing.waitclose(10)
            raise AssertionError("no error")
        except farexec.RemoteError as error:
            assert "ZeroDivisionError" in str(error)
    """,
    "back-pressure": """
        gateway = group.makegateway("popen//execmodel=thread")
        slow = gateway.remote_exec("import time\\nfor item in channel: time.sleep(0.3)\\n")
        slow.send(b"")
        stopped = gateway.remote_exec("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)")
        import os, signal
        while open(f"/proc/{gateway.pid}/stat").read().rpartition(")")[2].split()[0] != "T":
            sleep(0.01)
        spawn(lambda: [sleep(0.5), os.kill(gateway.pid, signal.SIGCONT)])
        lets_others_run(lambda: [slow.send(b"x" * 1_000_000) for _ in range(8)])
    """,
    "a worker of the same model": """
        gateway = group.makegateway()
        assert gateway.remote_status().execmodel == model
        # Two executions in one thread wait for each other.
        first = gateway.remote_exec(\"\"\"
            import threading
            channel.gateway.shared = channel.receive()
            channel.send(threading.get_ident())
        \"\"\")
        second = gateway.remote_exec(\"\"\"
            import threading
            while not hasattr(channel.gateway, "shared"):
                channel.gateway.execmodel.sleep(0.01)
            channel.send(channel.gateway.shared)
        \"\"\")
        first.send("shared")
        assert second.receive(10) == "shared"
        assert first.receive(10)
        assert len(group) == 1
    """,
    "tree of files": """
        import pathlib, tempfile
        gateway = group.makegateway()
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder, "source"); source.mkdir()
            (source / "file").write_bytes(b"x" * 3_000_000)
            rsync = farexec.RSync(source, verbose=False)
            rsync.add_target(gateway, pathlib.Path(folder, "there"))
            rsync.send()
            assert pathlib.Path(folder, "there", "file").read_bytes() == b"x" * 3_000_000
    """,
    "killed while it waits": """
        gateway = group.makegateway("popen//execmodel=thread")
        channel = gateway.remote_exec("for item in channel: channel.send(item)")
        waiting = spawn(channel.receive)
        sleep(0.1)
        waiting.kill()
        sleep(0.1)
        channel.send(1)
        assert channel.receive(10) == 1
    """,
}


def run(model, program, *arguments):
    text = PRELUDE + textwrap.dedent(program) + "\ngroup.terminate(timeout=5)\nprint('done')\n"
    result = subprocess.run([sys.executable, "-c", text, model, *arguments], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr
    return result


@pytest.mark.parametrize("patched", ["", "patched"])
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("model", MODELS)
def test_the_coordinator_waits_in_greenlets(model, name, patched):
    run(model, PROGRAMS[name], patched)


@pytest.fixture(params=MODELS)
def green_gateway(request, group):
    return group.makegateway(f"popen//execmodel={request.param}")


def test_executions_are_greenlets_of_one_thread(green_gateway):
    """With gevent and eventlet, workers hung: what waited blocked the thread of all greenlets."""
    source = """
        import threading
        channel.send(threading.current_thread() is threading.main_thread())
        for item in channel:
            channel.send(item)
        """
    channels = [green_gateway.remote_exec(source) for _ in range(20)]
    assert [channel.receive(10) for channel in channels] == [True] * 20
    assert green_gateway.remote_status().numexecuting == 20
    for number, channel in reversed(list(enumerate(channels))):
        channel.send(number)
        assert channel.receive(10) == number
    large = b"x" * 5_000_000
    channels[3].send(large)
    assert channels[3].receive(20) == large


def test_timeouts_errors_callbacks_and_closes_at_a_green_worker(green_gateway):
    source = """
        import threading
        got = []
        other = channel.gateway.newchannel()
        channel.send(other)
        other.setcallback(got.append, endmarker="end")
        other.waitclose()
        channel.send(got)
        try:
            channel.receive(0.2)
        except channel.TimeoutError:
            channel.send("late")
        1 / 0
        """
    channel = green_gateway.remote_exec(source)
    other = channel.receive(10)
    for number in range(3):
        other.send(number)
    other.close()
    assert channel.receive(10) == [0, 1, 2, "end"]
    assert channel.receive(10) == "late"
    with pytest.raises(farexec.RemoteError, match="ZeroDivisionError"):
        channel.receive(10)


def test_a_green_worker_answers_while_a_greenlet_computes(green_gateway):
    channel = green_gateway.remote_exec("channel.send(1)\nwhile True: pass")
    channel.receive(10)
    status = green_gateway.remote_status()
    assert (status.numexecuting, status.execmodel) == (1, green_gateway.spec.execmodel)


def test_a_green_worker_whose_modules_are_patched(request, green_gateway):
    patch = {"gevent": "from gevent import monkey; monkey.patch_all()", "eventlet": "import eventlet; eventlet.monkey_patch()"}
    source = """
        import queue, threading, time
        box = queue.Queue()
        threading.Thread(target=lambda: [time.sleep(0.1), box.put(channel.receive())]).start()
        channel.send(box.get())
        """
    green_gateway.remote_exec(patch[green_gateway.spec.execmodel]).waitclose(20)
    channels = [green_gateway.remote_exec(source) for _ in range(5)]
    for number, channel in enumerate(channels):
        channel.send(number)
    assert [channel.receive(10) for channel in channels] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("model", MODELS)
def test_a_worker_of_threads_whose_modules_are_patched(group, model):
    patch = {"gevent": "from gevent import monkey; monkey.patch_all()", "eventlet": "import eventlet; eventlet.monkey_patch()"}
    gateway = group.makegateway()
    gateway.remote_exec(patch[model]).waitclose(20)
    channels = [gateway.remote_exec("channel.send(channel.receive())") for _ in range(5)]
    for number, channel in enumerate(channels):
        channel.send(number)
    assert [channel.receive(10) for channel in channels] == [0, 1, 2, 3, 4]
    gateway.exit()
    gateway.join(10)
    assert gateway.returncode == 0


@pytest.mark.parametrize("waits", ["channel.receive()", "while True: pass", "channel.gateway.execmodel.sleep(600)"])
def test_a_green_worker_ends(group, green_gateway, waits):
    green_gateway.remote_exec("channel.send(1)\n" + waits).receive(10)
    group.terminate(timeout=2)
    assert not green_gateway.alive


def test_a_green_worker_ends_in_order(group, green_gateway):
    channel = green_gateway.remote_exec("channel.send(1)\nfor item in channel: pass")
    channel.receive(10)
    green_gateway.exit()
    green_gateway.join(10)
    assert green_gateway.returncode == 0


def test_green_workers_carry_and_print(group, green_gateway):
    lines = []
    group.set_output(lambda *line: lines.append(line))
    model = green_gateway.spec.execmodel
    far = group.makegateway(f"popen//via=gw0//execmodel={model}//stdout=forward")
    assert far.remote_exec("print('there')\nchannel.send(42)").receive(10) == 42
    group.terminate(timeout=5)
    assert lines == [("gw1", "stdout", "there")]


LOGGING = """
    import logging, os, signal
    logging.basicConfig(format="%(name)s %(message)s")
    group.makegateway("popen//execmodel=thread//id=first")
    for _ in range(4):
        group.makegateway("popen//execmodel=thread")
    for gateway in group:
        os.kill(gateway.pid, signal.SIGKILL)
    for number in range(300):
        logging.warning("%d", number)
    for gateway in group:
        gateway.join()
    sleep(0.1)
"""


@pytest.mark.local("workers are killed by signals")
@pytest.mark.parametrize("patched", ["", "patched"])
@pytest.mark.parametrize("model", MODELS)
def test_what_the_core_has_to_say_is_logged_by_a_greenlet(model, patched):
    """The thread that did so waited for a lock of eventlet's for ever, and the program for it."""
    lines = run(model, LOGGING, patched).stderr.splitlines()
    assert sum(line.startswith("farexec worker ") and "SIGKILL" in line for line in lines) == 5
    assert [line for line in lines if line.startswith("root ")] == [f"root {number}" for number in range(300)]


@pytest.mark.parametrize("model", MODELS)
def test_a_worker_without_the_library_says_so(group, tmp_path, model):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path)], check=True)
    with pytest.raises(farexec.StartError, match=f"the execution model {model} needs the package {model}"):
        group.makegateway(f"popen//execmodel={model}//python={tmp_path}/bin/python")
    program = f"import sys; sys.modules[{model!r}] = None; import farexec; farexec.Group(execmodel={model!r})"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert f"ImportError: the execution model {model} needs the package {model}" in result.stderr
