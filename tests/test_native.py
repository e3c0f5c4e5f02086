"""Native workers: when a worker is one, and what it does that another kind cannot."""

import os
import subprocess
import sys
import textwrap

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
