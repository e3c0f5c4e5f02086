"""The same behaviour over every transport, each against the real thing: servers.py starts them."""

import hashlib
import os
import shlex
import subprocess
import sys
import time

import pytest

import farexec
from keeper import descendants
from processes import wait_until_gone

ITEMS = [None, True, -(2**70), 1.5, 1j, "ä", b"\x00\xff", (), [1, [2]], {"a": {1: 2}}, {1, 2}, frozenset([3])]

TRANSPORTS = ["ssh", "socket", "installvia", "via", "via twice", "ssh via", "podman", "srun", "bwrap", "sudo"]
SHORT_FORMS = ["podman=", "docker=", "srun=", "uv="]


@pytest.fixture(params=[*TRANSPORTS, *SHORT_FORMS])
def spec(request, group, specs_to):
    *ways, there = specs_to(request.param)
    for way in ways:
        group.makegateway(way)
    return there


@pytest.fixture
def gateway(group, spec):
    return group.makegateway(spec)


def test_items_errors_callbacks_and_channels(gateway):
    channel = gateway.remote_exec("for item in channel: channel.send(item)")
    for item in ITEMS:
        channel.send(item)
        received = channel.receive(10)
        assert received == item and type(received) is type(item)
    large = os.urandom(3 << 20)
    channel.send(large)
    assert channel.receive(20) == large
    with pytest.raises(farexec.RemoteError, match="ZeroDivisionError"):
        gateway.remote_exec("1 / 0").receive(10)
    got = []
    numbers = gateway.remote_exec("for number in range(100): channel.send(number)")
    numbers.setcallback(got.append, endmarker="end")
    numbers.waitclose(10)
    assert got == [*range(100), "end"]
    inner = gateway.newchannel()
    gateway.remote_exec("channel.receive().send('through')").send(inner)
    assert inner.receive(10) == "through"


def test_status_while_computing_and_an_end_that_is_told(group, spec):
    # It would end by itself after its grace, which is not to come first however busy this machine is.
    gateway = group.makegateway(spec + "//grace=60")
    channel = gateway.remote_exec("channel.send(1)\nwhile True: pass")
    channel.receive(10)
    assert gateway.remote_status().numexecuting == 1
    ends = []
    channel.setcallback(ends.append, endmarker="end")
    began = time.monotonic()
    group.terminate(timeout=1)
    assert time.monotonic() - began < 30
    with pytest.raises(EOFError, match="did not end in time and was killed"):
        channel.waitclose(5)
    assert ends == ["end"] and len(group) == 0


def test_environment_and_directory(group, spec):
    gateway = group.makegateway(spec + "//env:FAREXEC_TEST=a b'c//chdir=/tmp")
    source = "import os; channel.send((os.environ['FAREXEC_TEST'], os.getcwd()))"
    assert gateway.remote_exec(source).receive(10) == ("a b'c", "/tmp")


def test_a_worker_that_dies_ends_its_channels(gateway):
    channel = gateway.remote_exec("import os; channel.send(os.getpid()); channel.receive(); os._exit(7)")
    channel.receive(10)
    ends = []
    channel.setcallback(ends.append, endmarker="end")
    channel.send(None)
    with pytest.raises(EOFError, match=r"exited with status 7|was lost"):
        channel.waitclose(5)
    assert ends == ["end"]
    gateway.join(5)
    assert not gateway.alive


def test_print_reaches_our_standard_error(capfd, group, gateway, tmp_path):
    gateway.remote_exec("print('printed there')").waitclose(10)
    gateway.remote_exec("import sys; sys.stderr.write('and there\\n')").waitclose(10)
    # What is written while the capture is read would be lost.
    group.terminate(timeout=5)
    server = tmp_path / "server-stderr"  # the outputs of a stand-alone server are its workers'
    seen = "".join(capfd.readouterr()) + (server.read_text() if server.exists() else "")
    assert "printed there" in seen and "and there" in seen


def test_output_is_forwarded(group, spec):
    lines = []
    group.set_output(lambda *line: lines.append(line))
    gateway = group.makegateway(spec + "//id=far//stdout=forward//stderr=forward")
    gateway.remote_exec(
        """
        import atexit, os, sys
        print("out")
        os.system("echo from a child; echo complaint >&2")
        atexit.register(os.write, 1, b"at the end")
        """
    ).waitclose(10)
    group.terminate(timeout=5)
    assert [line for line in lines if line[1] == "stdout"] == [("far", "stdout", line) for line in ("out", "from a child", "at the end")]
    assert ("far", "stderr", "complaint") in lines


def test_a_far_worker_can_be_silenced(group, capfd):
    group.makegateway("popen//id=relay")
    gateway = group.makegateway("popen//via=relay//stdout=null")
    gateway.remote_exec("import sys; print('not to be seen'); sys.stderr.write('this is\\n')").waitclose(10)
    group.terminate(timeout=5)
    seen = "".join(capfd.readouterr())
    assert "this is" in seen and "not to be seen" not in seen


def test_a_second_gateway_shares_the_connection(group, sshd):
    spec = f"ssh=farexec-host//ssh_config={sshd.config}//python={sys.executable}"
    before = sshd.connections()
    for _ in range(3):
        assert group.makegateway(spec).remote_exec("channel.send(1)").receive(10) == 1
    assert sshd.connections() == before + 1


def test_a_shared_connection_outlives_its_gateways_and_not_its_coordinator(sshd):
    source = """
import os, sys, farexec
group = farexec.Group([sys.argv[1]] * 3)
os.kill(group[0].pid, 9)
group[0].join(5)
print(*group[1].remote_exec("import os; channel.send([os.getpid()])").receive(10), flush=True)
group[2].remote_exec("channel.receive()").receive()
"""
    spec = f"ssh=farexec-host//ssh_config={sshd.config}//python={sys.executable}"
    with subprocess.Popen([sys.executable, "-c", source, spec], stdout=subprocess.PIPE, text=True) as coordinator:
        worker = int(coordinator.stdout.readline())
        started = descendants(coordinator.pid)
        assert len(started) >= 3  # the connection, and two gateways' ssh
        coordinator.kill()
    wait_until_gone(worker, *started)


def test_what_kept_us_from_a_host_is_told_apart(group, sshd):
    def error(host, python=sys.executable):
        with pytest.raises(farexec.StartError) as caught:
            group.makegateway(f"ssh={host}//ssh_config={sshd.config}//python={python}")
        return type(caught.value), str(caught.value)

    kind, text = error("farexec-denied")
    assert kind is farexec.AuthenticationFailed and "Permission denied" in text
    kind, text = error("farexec-closed")
    assert kind is farexec.HostUnreachable and "Connection refused" in text
    kind, text = error("farexec-unknown")
    assert kind is farexec.HostNotFound and "resolve" in text
    kind, text = error("farexec-host", "no-such-python")
    assert kind is farexec.InterpreterNotFound and "no-such-python" in text


def test_a_missing_interpreter_behind_a_relay(group):
    """Behind a relay it was a lost worker."""
    group.makegateway("popen//id=relay")
    with pytest.raises(farexec.InterpreterNotFound, match="no-such-python"):
        group.makegateway("popen//via=relay//python=no-such-python")


def test_a_reason_names_the_worker_and_not_what_brought_it(group, sshd):
    """Its process id was that of the `ssh` on this machine."""
    gateway = group.makegateway(f"ssh=farexec-host//ssh_config={sshd.config}//python={sys.executable}")
    pid = gateway.remote_exec("import os; channel.send(os.getpid())").receive(10)
    with pytest.raises(EOFError, match=rf"worker gw0 \(pid {pid}\) exited with status 7"):
        gateway.remote_exec("import os; os._exit(7)").receive(10)


def test_workers_end_with_their_relay_though_they_were_asked_to_end(group):
    """When a group was terminated with a timeout, what ignored the request went on for fifteen seconds behind a relay."""
    group.makegateway("popen//id=relay")
    gateway = group.makegateway("popen//via=relay")
    channel = gateway.remote_exec(
        """
        import time
        channel.send(1)
        while True:
            try:
                time.sleep(1)
            except KeyboardInterrupt:
                pass
        """
    )
    channel.receive(10)
    group.terminate(timeout=0.2)
    wait_until_gone(gateway.pid)


def test_a_missing_interpreter_behind_a_command(group, bwrap_command):
    with pytest.raises(farexec.InterpreterNotFound, match="no-such-python"):
        group.makegateway(f"command={shlex.join(bwrap_command)}//python=no-such-python")
    with pytest.raises(farexec.StartError, match="no program `no-such-tool`"):
        group.makegateway("command=no-such-tool run")


@pytest.mark.parametrize("name", SHORT_FORMS)
def test_short_forms_lead_where_they_say(group, specs_to, name):
    gateway = group.makegateway(*specs_to(name))
    source = "import os; channel.send([open('/proc/1/cmdline').read(), os.environ.get('SLURM_JOB_NAME')])"
    first_process, job = gateway.remote_exec(source).receive(10)
    assert (first_process == "sleep\0infinity\0") == (name in ("podman=", "docker="))
    assert job == ("farexec" if name == "srun=" else None)


def test_nothing_goes_on_in_a_container_after_the_end(group, specs_to):
    with farexec.Group() as observers:
        (spec,) = specs_to("podman=")
        channel = group.makegateway(spec).remote_exec("import os; channel.send(os.getpid())\nwhile True: pass")
        worker = channel.receive(10)
        source = "import os\nfor pid in channel: channel.send(os.path.exists('/proc/%d' % pid))"
        observer = observers.makegateway(spec).remote_exec(source)
        observer.send(worker)
        assert observer.receive(10)
        group.terminate(timeout=0.5)
        deadline = time.monotonic() + 15
        observer.send(worker)
        while observer.receive(10):
            assert time.monotonic() < deadline, "the worker goes on"
            time.sleep(0.05)
            observer.send(worker)


@pytest.mark.parametrize(
    ("spec", "text"),
    [("podman=no-such-box", "no-such-box"), ("docker=no-such-box", "no-such-box"), ("srun=-w no-such-node", "srun: error")],
)
def test_short_forms_that_lead_nowhere(group, specs_to, spec, text):
    specs_to(spec.partition("=")[0] + "=")
    with pytest.raises(farexec.StartError, match=text):
        group.makegateway(spec)


def test_an_environment_need_not_exist_beforehand(group, uv, monkeypatch):
    """Workers needed environments that somebody had made before."""
    monkeypatch.setenv("PATH", f"{uv}{os.pathsep}{os.environ['PATH']}")
    gateway = group.makegateway(f"uv=six,python{sys.version_info[0]}.{sys.version_info[1]}")
    source = "import six, sys; channel.send((six.moves.__name__, sys.prefix, sys.version_info[:2]))"
    name, prefix, version = gateway.remote_exec(source).receive(10)
    assert name == "six.moves" and prefix != sys.prefix and version == sys.version_info[:2]
    with pytest.raises(farexec.StartError, match="no-such-package-of-farexec"):
        group.makegateway("uv=no-such-package-of-farexec")


def test_an_environment_is_taken_as_it_is(group, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "environment")], check=True)
    gateway = group.makegateway(f"popen//python={tmp_path}/environment/bin/python")
    source = """
        import sys
        try:
            import farexec
        except ImportError:
            channel.send((sys.prefix, "nothing installed"))
        """
    assert gateway.remote_exec(source).receive(10) == (str(tmp_path / "environment"), "nothing installed")


def test_a_wrong_secret_is_refused(group, socket_server, tmp_path):
    (tmp_path / "other").write_text("guess")
    (tmp_path / "other").chmod(0o600)
    spec = socket_server.replace("/secret", "/other").replace("//other_file", "//secret_file")
    with pytest.raises(farexec.AuthenticationFailed, match="secret"):
        group.makegateway(spec)


def test_the_remote_address(group, sshd, socket_server):
    gateway = group.makegateway(f"ssh=farexec-host//ssh_config={sshd.config}//python={sys.executable}")
    assert gateway.remoteaddress == "farexec-host"
    assert socket_server.startswith(f"socket={group.makegateway(socket_server).remoteaddress}//")
    with pytest.raises(AttributeError):
        print(group.makegateway("popen").remoteaddress)


@pytest.mark.parametrize("spec", ["socket=xyz", "socket=host:port", "socket=host:70000"])
def test_a_socket_needs_an_address(group, spec):
    with pytest.raises(ValueError, match="needs an address: host:port"):
        group.makegateway(spec)


def test_relays_end_last(group, tmp_path):
    for spec in ("popen//id=first", "popen//id=second//via=first", "popen//id=third//via=second", "popen//id=beside//via=first"):
        gateway = group.makegateway(spec)
        gateway.remote_exec(note_the_end, path=str(tmp_path / "ends"), name=gateway.id).waitclose(10)
    group.terminate(timeout=10)
    ends = (tmp_path / "ends").read_text().split()
    assert sorted(ends) == ["beside", "first", "second", "third"], "each had the time to end in order"
    assert ends[-1] == "first" and ends.index("third") < ends.index("second")


def note_the_end(channel, path, name):
    import atexit

    def note():
        with open(path, "a") as file:
            file.write(name + "\n")

    atexit.register(note)


def test_what_a_relay_carries_ends_with_it(group):
    relay = group.makegateway("popen//id=relay")
    carried = group.makegateway("popen//via=relay")
    pid = carried.pid
    channel = carried.remote_exec("channel.send(1); channel.receive()")
    channel.receive(10)
    os.kill(relay.pid, 9)
    with pytest.raises(EOFError, match="relay"):
        channel.receive(5)
    wait_until_gone(pid)


def test_a_relay_leaves_the_main_thread_to_executions():
    with farexec.Group(execmodel="main_thread_only") as group:
        relay = group.makegateway("popen//id=relay")
        carried = [group.makegateway("popen//via=relay") for _ in range(3)]
        for gateway in [relay, *carried]:
            assert gateway.remote_exec("import threading; channel.send(threading.current_thread().name)").receive(10) == "MainThread"


@pytest.mark.parametrize("spec", ["popen//via=alone", "socket//installvia=alone"])
def test_who_does_one_thing_at_a_time_is_no_relay(group, spec):
    group.makegateway("popen//id=alone//threads=none")
    with pytest.raises(ValueError, match="`alone` has `threads=none`"):
        group.makegateway(spec)


def test_a_relay_that_is_not_there(group):
    with pytest.raises(ValueError, match="`nobody`"):
        group.makegateway("popen//via=nobody")


def test_relays_and_servers_run_in_every_interpreter(group, python):
    group.makegateway(f"popen//id=relay//python={python}")
    data = os.urandom(300_000)
    for spec in ("popen//via=relay", "socket//installvia=relay"):
        gateway = group.makegateway(spec)
        gateway.reconfigure(py2str_as_py3str=False)
        channel = gateway.remote_exec("import os; channel.send(os.getpid()); channel.send(channel.receive())")
        assert channel.receive(10) == gateway.pid
        channel.send(data)
        assert channel.receive(10) == data


def test_a_tree_is_sent(gateway, tmp_path):
    (tmp_path / "source" / "folder").mkdir(parents=True)
    (tmp_path / "source" / "folder" / "large").write_bytes(os.urandom(1 << 20))
    (tmp_path / "source" / "small").write_text("x")
    ask = gateway.remote_exec("import tempfile; channel.send(tempfile.mkdtemp())")
    there = ask.receive(10)
    for changed in (2, 1):
        acknowledged = []
        rsync = farexec.RSync(tmp_path / "source", callback=lambda *call, to=acknowledged: to.append(call), verbose=False)
        rsync.add_target(gateway, f"{there}/made", delete=True)
        rsync.send()
        assert [what for what, *_ in acknowledged] == ["list"] + ["ack"] * changed
        source = "import hashlib; channel.send(hashlib.sha256(open(channel.receive(), 'rb').read()).hexdigest())"
        for name in ("folder/large", "small"):
            channel = gateway.remote_exec(source)
            channel.send(f"{there}/made/{name}")
            assert channel.receive(10) == hashlib.sha256((tmp_path / "source" / name).read_bytes()).hexdigest()
        (tmp_path / "source" / "small").write_text("xy")
    gateway.remote_exec("import shutil; shutil.rmtree(channel.receive())").send(there)
