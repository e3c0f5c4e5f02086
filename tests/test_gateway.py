"""Gateways and groups as Python sees them: starting, executing, explaining, ending."""

import os
import re
import subprocess
import sys
import time

import pytest

import farexec
from far import kill
from processes import wait_until_gone


def test_group_is_a_container(group):
    one = group.makegateway("popen//id=first")
    two = group.makegateway()
    assert (one.id, two.id) == ("first", "gw0")
    assert len(group) == 2 and list(group) == [one, two]
    assert group[0] is one and group["gw0"] is two and group[one] is one
    assert one in group and "first" in group and "other" not in group
    assert repr(group) == "<Group ['first', 'gw0']>"
    with pytest.raises(KeyError):
        group["other"]
    with pytest.raises(IndexError):
        group[2]
    with pytest.raises(ValueError, match="first"):
        group.makegateway("popen//id=first")


def test_members_start_together():
    began = time.monotonic()
    farexec.Group(["popen"]).terminate(timeout=5)
    one = time.monotonic() - began
    began = time.monotonic()
    with farexec.Group([f"popen//python=sh -c 'sleep 1; exec {sys.executable} \"$@\"' sh"] * 8) as group:
        assert len(group) == 8
        assert time.monotonic() - began < 4 + 8 * one


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ("popen//foo=1", "unknown key `foo`"),
        ("popen//chdri=/tmp", "did you mean `chdir`"),
        ("popen//id=1//id=2", "duplicate key: `id`"),
        ("popen//_private=1", "unknown key `_private`"),
        ("popen//nice=high", "is no whole number"),
        ("//", "empty part"),
        ("popen//execmodel=other", "execmodel=other"),
    ],
)
def test_a_bad_spec_is_refused_with_the_part_that_is_wrong(group, spec, part):
    with pytest.raises(ValueError, match=part):
        group.makegateway(spec)
    assert len(group) == 0


def test_xspec():
    spec = farexec.XSpec("popen//python=python3//env:A=1//dont_write_bytecode")
    assert (spec.popen, spec.python, spec.env, spec.dont_write_bytecode) == (True, "python3", {"A": "1"}, True)
    assert spec.id is None and spec.anything is None
    spec.id = "mine"
    spec.chdir = "/tmp"
    assert str(spec) == "popen//python=python3//env:A=1//dont_write_bytecode"
    assert repr(spec) == "<XSpec 'popen//python=python3//env:A=1//dont_write_bytecode'>"
    assert spec == farexec.XSpec(str(spec)) and hash(spec) == hash(farexec.XSpec(str(spec)))
    assert spec != farexec.XSpec("popen")


def test_a_spec_can_be_changed_before_it_is_used(group, tmp_path):
    spec = farexec.XSpec("popen")
    spec.id = "mine"
    spec.chdir = str(tmp_path)
    gateway = group.makegateway(spec)
    assert gateway.id == "mine"
    assert gateway.remote_exec("import os; channel.send(os.getcwd())").receive() == str(tmp_path)


@pytest.mark.local("the server chooses the interpreter", "socket")
def test_missing_interpreter(group):
    with pytest.raises(farexec.InterpreterNotFound, match="no interpreter `no-such-python`") as caught:
        group.makegateway("popen//python=no-such-python")
    assert isinstance(caught.value, farexec.StartError) and isinstance(caught.value, FileNotFoundError)


@pytest.mark.local("the server chooses the interpreter", "socket")
def test_an_interpreter_that_is_none(group):
    with pytest.raises(farexec.StartError, match="exited with status 3"):
        group.makegateway("popen//python=sh -c 'exit 3'")


@pytest.mark.local("standard error goes to who started the interpreter, and podman may lose it", "via", "socket", "podman")
def test_what_an_interpreter_that_is_none_says(group):
    with pytest.raises(farexec.StartError, match=r"exited with status 3(.|\n)*too old"):
        group.makegateway("popen//python=sh -c 'echo too old >&2; exit 3'")


def expected_kind(gateway, info):
    """The kind of worker that FAREXEC_NATIVE allows there: the extension module is for CPython from 3.10 on."""
    choice = os.environ.get("FAREXEC_NATIVE", "auto")
    if choice == "no" or info.implementation != "cpython" or info.version_info < (3, 10):
        return "pure"
    look = "import importlib.util; channel.send(importlib.util.find_spec('farexec') is not None)"
    return "native" if choice == "push" or gateway.remote_exec(look).receive() else "pure"


def test_the_interpreter_is_this_one(gateway, worker_python, workers_version):
    info = gateway._rinfo()
    assert os.path.realpath(info.executable) == os.path.realpath(worker_python)
    assert info.version_info[:3] == workers_version
    assert (info.platform, info.pid) == ("linux2" if workers_version < (3,) else sys.platform, gateway.pid)
    assert info.worker == expected_kind(gateway, info)
    channel = gateway.remote_exec("import os; channel.send(os.getcwd()); os.chdir('/etc')")
    there = channel.receive()
    channel.waitclose()
    assert gateway._rinfo().cwd == there
    assert gateway._rinfo(update=True).cwd == "/etc"


@pytest.mark.local("it is elsewhere")
def test_the_directory_is_ours(gateway):
    assert gateway._rinfo().cwd == os.getcwd()


def test_remote_status_while_computing(gateway):
    channel = gateway.remote_exec(
        """
        import time
        channel.send(1)
        until = time.time() + 3
        while time.time() < until:
            pass
        """
    )
    channel.receive()
    began = time.monotonic()
    status = gateway.remote_status()
    assert (status.numexecuting, status.numchannels, status.execmodel) == (1, 1, "thread")
    assert time.monotonic() - began < 2


def test_functions(gateway):
    def add(channel, one, two=2):
        channel.send(one + two)

    assert gateway.remote_exec(add, one=40).receive() == 42


def test_functions_that_would_not_work_alone_are_refused(gateway):
    outer = 1

    def closure(channel):
        channel.send(outer)

    def uses_global(channel):
        channel.send(os.getpid())

    def no_channel(other):
        pass

    with pytest.raises(ValueError, match="closure.* outer"):
        gateway.remote_exec(closure)
    with pytest.raises(ValueError, match="non-builtin globals.* os"):
        gateway.remote_exec(uses_global)
    with pytest.raises(ValueError, match="`channel`"):
        gateway.remote_exec(no_channel)
    with pytest.raises(ValueError, match="lambda"):
        gateway.remote_exec(lambda channel: None)
    with pytest.raises(TypeError, match="kwargs"):
        gateway.remote_exec("pass", x=1)
    with pytest.raises(TypeError, match="int"):
        gateway.remote_exec(1)
    with pytest.raises(farexec.DumpError, match="object"):
        gateway.remote_exec(lambda_free, thing=object())


def lambda_free(channel, thing):
    channel.send(thing)


def test_a_module_is_executed(gateway, tmp_path, monkeypatch):
    (tmp_path / "sent_module.py").write_text("def f():\n    channel.send(__name__)\n\nif __name__ == '__channelexec__':\n    f()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import sent_module

    assert gateway.remote_exec(sent_module).receive() == "__channelexec__"


@pytest.mark.local("its program has a worker of its own")
def test_print_reaches_our_standard_output():
    """Workers' standard output and error were lost: print went to /dev/null."""
    program = """
import farexec
with farexec.Group(["popen"]) as group:
    group[0].remote_exec("import sys; print('to stdout'); print('to stderr', file=sys.stderr)").waitclose()
    group[0].remote_exec("import os; os.system('echo from a child')").waitclose()
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, "to stdout\nfrom a child\n")
    assert "to stderr\n" in result.stderr


@pytest.mark.local("its program has a worker of its own")
def test_output_can_be_silenced():
    program = """
import farexec
with farexec.Group(["popen//stdout=null//stderr=null"]) as group:
    group[0].remote_exec("import sys; print('out'); print('err', file=sys.stderr)").waitclose()
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


PRINTING = """
import atexit, os, sys
print("out\\r")
sys.stderr.write("err\\n")
os.system("echo from a child")
sys.stdout.write("ends without ")
sys.stdout.flush()
channel.receive()
atexit.register(sys.stdout.write, "an end of line")
"""


def test_output_is_forwarded_in_whole_lines(group):
    """Workers' output was lost; it comes here line by line, whoever writes it, up to the end of the process."""
    lines = []
    group.set_output(lambda *line: lines.append(line))
    for _ in range(3):
        group.makegateway("popen//stdout=forward//stderr=forward")
    channels = group.remote_exec(PRINTING)
    channels.send_each(None)
    channels.waitclose()
    group.terminate(timeout=5)
    printed = ["out", "from a child", "ends without an end of line"]
    for name in ("gw0", "gw1", "gw2"):
        assert [line for gateway, stream, line in lines if (gateway, stream) == (name, "stdout")] == printed
        assert (name, "stderr", "err") in lines
    assert len(lines) == 12


@pytest.mark.local("elsewhere they may be lost on the way")
def test_the_last_lines_of_a_worker_that_dies_are_forwarded(group):
    lines = []
    group.set_output(lambda *line: lines.append(line))
    gateway = group.makegateway("popen//stdout=forward//stderr=forward//id=victim")
    gateway.remote_exec("import os; os.write(1, b'x' * 50000 + b'\\nlast'); os.write(2, b'words'); os.kill(os.getpid(), 9)")
    gateway.join(10)
    group.terminate(timeout=5)
    assert sorted(lines) == [("victim", "stderr", "words"), ("victim", "stdout", "last"), ("victim", "stdout", "x" * 50_000)]


def test_forwarded_lines_are_printed_behind_the_id_of_their_gateway(group, capsys):
    group.makegateway("popen//stdout=forward//stderr=forward")
    group[0].remote_exec("import sys; print('out'); sys.stderr.write('err\\n')").waitclose()
    group.terminate(timeout=5)
    assert capsys.readouterr() == ("[gw0] out\n", "[gw0] err\n")


def test_a_function_that_fails_with_a_line_stops_nothing(group):
    lines, failures = [], []

    def fail(*line):
        lines.append(line)
        raise ValueError("not this line")

    hook, sys.unraisablehook = sys.unraisablehook, lambda failure: failures.append(failure.exc_value)
    try:
        group.set_output(fail)
        group.makegateway("popen//stdout=forward").remote_exec("print(1); print(2)").waitclose()
        group.terminate(timeout=5)
    finally:
        sys.unraisablehook = hook
    assert lines == [("gw0", "stdout", "1"), ("gw0", "stdout", "2")]
    assert [str(failure) for failure in failures] == ["not this line"] * 2


def test_an_unknown_way_for_output_is_refused(group):
    with pytest.raises(ValueError, match="`inherit`, `null` or `forward`"):
        group.makegateway("popen//stdout=elsewhere")


TRACED = """
import farexec
with farexec.Group(["popen//id=traced"]) as group:
    channel = group[0].remote_exec("channel.send(channel.receive() + [None])")
    channel.send(["a", 1])
    channel.receive()
    channel.waitclose()
"""


@pytest.mark.local("its program has a worker of its own")
@pytest.mark.parametrize("level", ["1", "2"])
def test_messages_can_be_traced(tmp_path, level):
    environment = {**os.environ, "FAREXEC_DEBUG": level, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", TRACED]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert result.returncode == 0
    if level == "2":
        trace = result.stderr
        assert list(tmp_path.iterdir()) == []
    else:
        (file,) = tmp_path.iterdir()
        assert file.name.startswith("farexec-debug-") and result.stderr == ""
        trace = file.read_text()
    lines = [re.sub(r"^ *[0-9.]+ |pid [0-9]+| [0-9]+ bytes", "", line) for line in trace.splitlines()]
    assert lines[0].startswith("traced -- the worker's source and Start")
    assert lines[1].startswith("traced <- Hello") and "'version': [3" in lines[1]
    assert "channel.send(channel.receive() + [None])" in lines[2] and lines[2].startswith("traced -> Execute channel 1")
    assert lines[3:6] == [
        "traced -> Item channel 1,: ['a', 1]",
        "traced <- Item channel 1,: ['a', 1, None]",
        "traced <- Close channel 1",
    ]
    assert lines[6].startswith("traced -> Terminate") and lines[7] == "traced -- worker traced () ended as asked"


def test_the_coordinators_paths_stay_with_the_coordinator(group, monkeypatch, tmp_path, worker_python):
    """The coordinator's sys.path leaked into workers, which then imported what they should not."""
    monkeypatch.syspath_prepend(str(tmp_path))
    got = group.makegateway().remote_exec("import sys; channel.send(sys.path)").receive()
    command = [worker_python, "-c", "import sys; print(repr(sys.path))"]
    assert repr(got) == subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()


@pytest.mark.local("the server starts the interpreter", "socket")
def test_environment_is_there_before_the_interpreter_starts(group, monkeypatch):
    """Variables were set by a second execution, too late for whatever reads them at the start."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    gateway = group.makegateway("popen//env:PYTHONDONTWRITEBYTECODE=1//env:PYTHONOPTIMIZE=2")
    source = "import sys; channel.send((sys.flags.dont_write_bytecode, sys.flags.optimize))"
    assert gateway.remote_exec(source).receive() == (1, 2)


@pytest.mark.local("standard error goes to who started the worker", "via", "socket")
def test_a_death_is_explained(gateway):
    """`os._exit(7)` in a worker gave nothing but "couldn't load message header"."""
    channel = gateway.remote_exec("import os; os.write(2, b'famous last words\\n'); os._exit(7)")
    told = rf"worker gw0 \(pid {gateway.pid}\) exited with status 7; its last words on standard error:\n(.*\n)?famous last words"
    with pytest.raises(EOFError, match=told):
        channel.receive()
    assert gateway.returncode == 7
    assert "status 7" in gateway.end_reason
    assert not gateway.hasreceiver()
    with pytest.raises(OSError, match="status 7"):
        channel.send(1)
    with pytest.raises(OSError, match="status 7"):
        gateway.remote_exec("pass")
    assert "not-receiving" in repr(gateway)


def test_a_kill_is_told_once_to_everyone_within_a_second(group, killed):
    for _ in range(3):
        group.makegateway()
    channels = group.remote_exec("channel.receive()")
    results = channels.make_receive_queue(endmarker="end")
    seen = []
    other = group[0].remote_exec("channel.receive()")
    other.setcallback(seen.append, endmarker="end")
    began = time.monotonic()
    kill(group[0])
    assert results.get(timeout=5) == (channels[0], "end")
    with pytest.raises(EOFError, match=killed.told):
        other.waitclose(timeout=5)
    assert time.monotonic() - began < 1
    assert seen == ["end"]
    assert killed.told in group[0].end_reason and group[0].returncode == killed.returncode
    group.terminate(timeout=5)
    assert [results.get(timeout=5)[1] for _ in range(2)] == ["end", "end"]
    assert results.empty()


@pytest.mark.local("the process is the server's to wait for", "socket")
def test_pid_wait_and_returncode(gateway):
    """A gateway's process could not be asked for, nor waited for."""
    assert gateway.pid == gateway.remote_exec("import os; channel.send(os.getpid())").receive()
    assert gateway.returncode is None
    with pytest.raises(farexec.TimeoutError):
        gateway.wait(timeout=0.05)
    gateway.exit()
    assert gateway.wait(timeout=10) == 0
    gateway.join()
    assert gateway.end_reason.endswith("ended as asked")


def test_descriptors_are_given_back_and_not_inherited(group, open_descriptors):
    group.makegateway().remote_exec("channel.send(1)").receive()
    group.terminate(timeout=5)
    time.sleep(0.3)
    before = open_descriptors()
    read, write = os.pipe()
    os.set_inheritable(read, True)
    inheritable = {fd for fd in open_descriptors() if os.path.exists(f"/proc/self/fd/{fd}") and os.get_inheritable(int(fd))}
    for _ in range(5):
        group.makegateway()
    source = "import os, subprocess; channel.send(subprocess.check_output(['ls', '/proc/self/fd']).split())"
    inherited = group[0].remote_exec(source).receive()
    opened_by_itself = 1
    assert str(read) in inheritable and len(inherited) <= 3 + opened_by_itself, inherited
    listing = subprocess.run(["ls", "/proc/self/fd"], capture_output=True, text=True, close_fds=False, timeout=60)
    assert len(set(listing.stdout.split()) - inheritable - {"0", "1", "2"}) <= opened_by_itself
    os.close(read)
    os.close(write)
    group.terminate(timeout=5)
    deadline = time.monotonic() + 5
    while open_descriptors() - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not open_descriptors() - before


@pytest.mark.local("processes have other numbers there", "command", "podman")
def test_terminate_has_one_deadline_for_all():
    """Each gateway had its own time, one after the other; and what ignored the signals stayed."""
    group = farexec.Group(["popen"] * 4)
    channels = group.remote_exec(
        """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        channel.send(1)
        while True:
            time.sleep(1)
        """
    )
    channels.receive_each()
    pids = [gateway.pid for gateway in group]
    began = time.monotonic()
    group.terminate(timeout=0.5)
    assert time.monotonic() - began < 2.5
    assert len(group) == 0
    wait_until_gone(*pids)


def test_dumps_and_loads():
    data = {"a": [1, (2.5, None)], b"b": {True}, "c": 2**70}
    assert farexec.loads(farexec.dumps(data)) == data
    assert farexec.dumps([1]) == b"\x02K\x00\x00\x00\x01F\x00\x00\x00\x00F\x00\x00\x00\x01PQ"
    assert farexec.loads(b"\x02M\x00\x00\x00\x01\xe9Q") == b"\xe9"
    assert farexec.loads(b"\x02M\x00\x00\x00\x01\xe9Q", py2str_as_py3str=True) == "é"
    with pytest.raises(farexec.DumpError, match=r"\[0\]"):
        farexec.dumps([object()])
    for bad in (b"", b"\x01LQ", b"\x02", b"\x02N\xff\xff\xff\x7f", b"\x02LQx", b"\x02?Q", b"\x02J" + b"K\x00\x00\x00\x00LPQ"):
        with pytest.raises(farexec.LoadError):
            farexec.loads(bad)


def test_exported_names():
    assert sorted(farexec.__all__) == sorted(name for name in farexec.__all__ if hasattr(farexec, name))
    assert farexec.__version__
