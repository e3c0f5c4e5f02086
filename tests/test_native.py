"""Native workers: when a worker is one, and what it does that another kind cannot."""

import glob
import os
import subprocess
import sys
import textwrap
import threading

import pytest

import farexec
import interpreters
from processes import wait_until_gone


def kind_of(group, spec="popen"):
    return group.makegateway(spec)._rinfo().worker


def test_a_worker_is_native_where_the_package_is_installed(group, monkeypatch):
    assert kind_of(group, f"popen//python={sys.executable}//native=auto") == "native"
    assert kind_of(group, f"popen//python={sys.executable}//native=no") == "pure"
    monkeypatch.setenv("FAREXEC_NATIVE", "no")
    assert kind_of(group) == "pure"
    monkeypatch.setenv("FAREXEC_NATIVE", "never")
    with pytest.raises(farexec.StartError, match="the variable FAREXEC_NATIVE is `never`: take `auto`, `push` or `no`"):
        group.makegateway()
    with pytest.raises(ValueError, match="take `auto`, `push` or `no`"):
        group.makegateway("popen//native=yes")


@pytest.mark.parametrize("start", ["spawn", "template"])
def test_another_version_of_the_package_is_not_used(group, tmp_path, start):
    """Versions need not match at both ends: where they do not, the worker is the one that was sent."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, types\nsys.modules['farexec._native'] = types.SimpleNamespace(WORKER_INTERFACE=(1, 0))\n"
    )
    assert kind_of(group, f"popen//start={start}//env:PYTHONPATH={tmp_path}") == "pure"


@pytest.mark.parametrize("place", ["popen", "popen//via=relay", "socket//installvia=relay"])
def test_the_extension_is_sent_to_where_none_is(group, python, place):
    """Hosts with nothing installed were left with the slower worker."""
    group.makegateway("popen//id=relay")
    spec = f"{place}//python={python}" if place != "socket//installvia=relay" else place
    gateway = group.makegateway(f"{spec}//native=push")
    version, implementation = gateway._rinfo().version_info[:2], gateway._rinfo().implementation
    expected = "native" if implementation == "cpython" and version >= (3, 10) else "pure"
    assert gateway._rinfo().worker == expected
    channel = gateway.remote_exec("while True: channel.send(channel.receive())")
    channel.reconfigure(py2str_as_py3str=False)
    for item in [1, "ä", b"x" * 3_000_000, {"a": [1.5, None]}]:
        channel.send(item)
        assert channel.receive(20) == item
    if expected == "native":
        source = "import sys; channel.send((sys.modules['farexec._native'].__spec__.origin, list(open('/proc/self/maps'))))"
        origin, maps = gateway.remote_exec(source).receive(10)
        if python != sys.executable and place != "socket//installvia=relay":
            assert origin.startswith("/proc/self/fd/") and any("memfd:farexec" in line for line in maps)


def test_what_is_sent_is_nothing_that_cannot_be_loaded(group, tmp_path):
    """A module that does not load there is no reason to fail."""
    program = f"""
        import farexec, farexec._native
        farexec._native.offer_extension({str(tmp_path / "broken")!r})
        with farexec.Group() as group:
            gateway = group.makegateway("popen//python={plain_python()}//native=push")
            print(gateway._rinfo().worker, gateway.remote_exec("channel.send(1)").receive(10))
    """
    (tmp_path / "broken").write_bytes(b"no module")
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60)
    assert (result.stdout, result.stderr) == ("pure 1\n", "")


def plain_python():
    """An interpreter in which the package is not installed, and could be."""
    found = [path for name, path in interpreters.interpreters() if path and name.startswith("3.1")]
    plain = [path for path in found if subprocess.run([path, "-c", "import farexec"], capture_output=True).returncode]
    if not plain:
        pytest.skip("every interpreter from 3.10 on has the package installed")
    return plain[0]


@pytest.mark.parametrize("native", ["auto", "no"])
def test_what_was_sent_before_a_crash_arrives(group, native):
    """An item that waits in the sender's memory is lost if the sender dies."""
    gateway = group.makegateway(f"popen//native={native}")
    source = "import os\nfor number in range(50): channel.send(number)\nchannel.send(b'x' * 200_000)\nos._exit(0)"
    channel = gateway.remote_exec(source)
    assert [channel.receive(10) for _ in range(50)] == list(range(50))
    assert len(channel.receive(10)) == 200_000
    with pytest.raises(EOFError):
        channel.receive(10)


def test_a_native_worker_that_cannot_be_interrupted_ends_all_the_same():
    """A worker in C code that holds the interpreter's lock noticed nothing, and went on for ever."""
    program = """
        import farexec
        group = farexec.Group(["popen//native=auto"])
        channel = group[0].remote_exec("import ctypes, os; channel.send(os.getpid()); ctypes.PyDLL(None).sleep(600)")
        print(channel.receive(), flush=True)
        channel.receive()
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True) as coordinator:
        worker = int(coordinator.stdout.readline())
        coordinator.kill()
    wait_until_gone(worker)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forks in a process with threads
def test_the_child_of_a_fork_has_no_part_in_its_parents_gateways(group):
    """A child that used a gateway of its parent's took the parent's answers, or waited for ever."""
    gateway = group.makegateway()
    channel = gateway.remote_exec("for item in channel: channel.send(item)")
    channel.send(1)
    assert channel.receive(10) == 1
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        told = []
        for use in (lambda: channel.send(2), channel.receive, channel.waitclose, gateway.remote_status, lambda: gateway.remote_exec("1")):
            try:
                use()
                told.append("done")
            except (OSError, EOFError) as error:
                told.append("forked" if "forked from" in str(error) else repr(error))
        os.write(writer, " ".join(told).encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as told:
        assert told.read() == " ".join(["forked"] * 5)
    os.waitpid(child, 0)
    channel.send(3)
    assert channel.receive(10) == 3


def test_a_program_that_was_forked_can_have_workers_of_its_own():
    program = """
        import farexec, os
        with farexec.Group(["popen"]) as group:
            assert group[0].remote_exec("channel.send(1)").receive(10) == 1
            child = os.fork()
            if child == 0:
                with farexec.Group(["popen"]) as own:
                    print(own[0].remote_exec("channel.send('of the child')").receive(10), flush=True)
                os._exit(0)
            os.waitpid(child, 0)
            print(group[0].remote_exec("channel.send('of the parent')").receive(10))
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.stdout, result.stderr) == ("of the child\nof the parent\n", "")


# Rings: what streams between a coordinator and a native worker of the same machine goes through memory that both map.

COUNT = 60_000  # more than a ring holds


@pytest.fixture
def local(group):
    """A native worker on this machine, where streams leave the pipes."""
    if sys.platform != "linux":
        pytest.skip("rings are for Linux")
    return group.makegateway(f"popen//python={sys.executable}//native=auto")


def rings_of(gateway):
    source = "channel.send(sum('memfd:farexec' in line for line in open('/proc/self/maps')))"
    return gateway.remote_exec(source).receive(20)


def test_a_stream_has_a_ring_and_nothing_else_has(group, local):
    assert rings_of(local) == 0
    channel = local.remote_exec(f"for number in range({COUNT}): channel.send(number)")
    assert [channel.receive(20) for _ in range(COUNT)] == list(range(COUNT))
    assert rings_of(local) == 1
    assert not any("memfd:farexec" in target for target in map(os.path.realpath, glob.glob("/proc/self/fd/*")))
    other = group.makegateway(f"popen//python={sys.executable}//native=no")
    channel = other.remote_exec(f"for number in range({COUNT}): channel.send(number)")
    assert [channel.receive(20) for _ in range(COUNT)] == list(range(COUNT))
    assert rings_of(other) == 0


@pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), 9)"])
def test_a_crash_right_behind_a_stream_loses_nothing(local, end):
    channel = local.remote_exec(f"import os\nfor number in range({COUNT}): channel.send(number)\n{end}")
    received = []
    with pytest.raises(EOFError):
        while True:
            received.append(channel.receive(20))
    assert received == list(range(COUNT))


def test_small_and_large_items_stay_in_order(local):
    """The end of a ring was waited for though what followed had been read already, and the stream stood still."""
    channel = local.remote_exec("while True: channel.send(channel.receive())")
    items = [b"x" * (number * 37) if number % 500 == 0 else number for number in range(COUNT)]
    received = []
    receiver = threading.Thread(target=lambda: received.extend(channel.receive(20) for _ in items))
    receiver.start()
    for item in items:
        channel.send(item)
    receiver.join()
    assert received == items


def test_a_ring_feeds_callbacks(local):
    channel = local.remote_exec(f"for number in range({COUNT}): channel.send(number)")
    received, ended = [], threading.Event()
    channel.setcallback(lambda item: ended.set() if item is None else received.append(item), endmarker=None)
    assert ended.wait(20)
    assert received == list(range(COUNT))


def test_a_worker_that_takes_nothing_stops_the_sender_and_loses_nothing(local):
    channel = local.remote_exec(f"import time\ntime.sleep(0.5)\nchannel.send(sum(channel.receive() for _ in range({4 * COUNT})))")
    for number in range(4 * COUNT):
        channel.send(number)
    assert channel.receive(20) == sum(range(4 * COUNT))


def test_a_worker_is_killed_while_it_is_sent_to(local):
    channel = local.remote_exec("channel.send(None)\nwhile True: channel.receive()")
    channel.receive(20)
    killer = threading.Timer(0.1, os.kill, (local._rinfo().pid, 9))
    killer.start()
    with pytest.raises(OSError):
        while True:
            channel.send(0)
    killer.join()


def test_a_child_that_a_worker_forks_has_no_part_in_its_ring(local):
    source = f"""
        import os
        for number in range({COUNT}):
            channel.send(number)
        child = os.fork()
        if child == 0:
            try:
                channel.send("from the child")
            except OSError:
                os._exit(7)
            os._exit(0)
        channel.send(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    channel = local.remote_exec(textwrap.dedent(source))
    assert [channel.receive(20) for _ in range(COUNT + 1)] == [*range(COUNT), 7]


def test_a_worker_that_garbles_the_memory_is_cut_off(local):
    """It says that there is more in the ring than a ring holds."""
    source = f"""
        import ctypes, os
        for number in range({COUNT}):
            channel.send(number)
        channel.receive()
        channel.send(0)  # all before has been taken, so this is in the ring
        place = next(line for line in open("/proc/self/maps") if "memfd:farexec" in line)
        ctypes.c_uint64.from_address(int(place.split("-")[0], 16) + 192).value = 1 << 50
        os._exit(0)
    """
    channel = local.remote_exec(textwrap.dedent(source))
    assert [channel.receive(20) for _ in range(COUNT)] == list(range(COUNT))
    channel.send(None)
    with pytest.raises(EOFError, match="corrupt"):
        while True:
            assert channel.receive(20) == 0
