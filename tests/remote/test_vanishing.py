"""Hosts that vanish without a word: the link between two network namespaces is taken down, so that nothing comes any more, not even the end
of a connection. And what must not be taken for that."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

import farexec
import servers
from farexec import socketserver
from processes import wait_until

NEAR, FAR = "192.0.2.1", "192.0.2.2"

# Waits, or sends, and tells how that ended.
PROGRAM = """
import sys, farexec
group = farexec.Group([sys.argv[1]])
channel = group[0].remote_exec("channel.send(1)\\nfor item in channel: pass")
channel.receive(20)
print("ready", flush=True)
try:
    while sys.argv[2] == "sending":
        channel.send(bytes(1000))
    channel.receive(120)
except (EOFError, OSError) as error:
    group[0].wait(30)
    print(type(error).__name__, group[0].end_reason, flush=True)
group.terminate(timeout=1)
print("ended", flush=True)
"""


def ip(*words):
    subprocess.run([servers.executable("ip"), *words], check=True, timeout=20)


@pytest.fixture
def link():
    """Two network namespaces with a link between them: what stands before a command in the one, a function that starts a process in the
    other, and one that cuts the link."""
    servers.need("netns")
    near, far = (f"farexec-{os.getpid()}-{side}" for side in ("near", "far"))
    with contextlib.ExitStack() as made:
        for name in (near, far):
            ip("netns", "add", name)
            made.callback(ip, "netns", "delete", name)
            made.callback(end_all_in, name)
        ip("link", "add", "farexec-near", "netns", near, "type", "veth", "peer", "name", "farexec-far", "netns", far)
        for name, address, device in ((near, NEAR, "farexec-near"), (far, FAR, "farexec-far")):
            ip("-n", name, "address", "add", f"{address}/30", "dev", device)
            ip("-n", name, "link", "set", device, "up")
            ip("-n", name, "link", "set", "lo", "up")
        exec_in = [servers.executable("ip"), "netns", "exec"]

        def start_far(*command, **settings):
            process = made.enter_context(subprocess.Popen([*exec_in, far, *command], text=True, **settings))
            made.callback(process.kill)
            return process

        yield [*exec_in, near], start_far, lambda: ip("-n", far, "link", "set", "farexec-far", "down")


def end_all_in(name):
    pids = subprocess.run([servers.executable("ip"), "netns", "pids", name], check=True, capture_output=True, text=True).stdout
    for pid in pids.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def serve(start_far, folder, *options):
    """A socket server in the other namespace. Returns its port, and the file with its secret."""
    secret = folder / "secret"
    secret.write_text("only we know")
    secret.chmod(0o600)
    command = [sys.executable, socketserver.__file__, f"{FAR}:0", "--secret-file", str(secret), *options]
    server = start_far(*command, stdout=subprocess.PIPE)
    return server.stdout.readline().rpartition(":")[2].strip(), secret


def over_socket(start_far, folder, _):
    port, secret = serve(start_far, folder)
    return f"socket={FAR}:{port}//secret_file={secret}//keepalive=4"


def over_tls(start_far, folder, _):
    pair = ["--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem")]
    command = [sys.executable, socketserver.__file__, "--make-certificate", *pair]
    pin = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()
    port, secret = serve(start_far, folder, *pair)
    return f"socket={FAR}:{port}//secret_file={secret}//{pin}//keepalive=4"


def over_ssh(start_far, folder, sshd):
    own = pathlib.Path(sshd.config).parent
    config = folder / "sshd_config"
    text = (own / "sshd_config").read_text().replace("127.0.0.1", FAR)
    config.write_text(re.sub("(?m)^PidFile .*$", f"PidFile {folder}/pid", text))
    with (folder / "log").open("w") as log:
        start_far(servers.executable("sshd"), "-D", "-e", "-f", str(config), stdout=log, stderr=log)
    wait_until(lambda: f"port {sshd.port}" in (folder / "log").read_text())
    host = f"-o HostName={FAR} -o HostKeyAlias=[127.0.0.1]:{sshd.port} farexec-host"
    return f"ssh={host}//ssh_config={sshd.config}//python={sys.executable}//keepalive=4"


@pytest.mark.parametrize("doing", ["waiting", "sending"])
@pytest.mark.parametrize("over", [over_socket, over_tls, over_ssh])
def test_a_link_that_is_taken_down_ends_the_gateway(link, sshd, tmp_path, over, doing):
    """A gateway whose host had vanished waited for ever, and one that sent to it for a quarter of an hour."""
    near, start_far, cut = link
    spec = over(start_far, tmp_path, sshd)
    command = [*near, sys.executable, "-c", PROGRAM, spec, doing]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout.readline() == "ready\n", program.stderr.read()
            began = time.monotonic()
            cut()
            said, errors = program.communicate(timeout=100)
        finally:
            program.kill()
    assert errors == "", errors
    assert time.monotonic() - began >= 2, "it ended before anybody can have asked"
    assert said.endswith("ended\n")
    expected = "status 255" if over is over_ssh else "timed out|acknowledged nothing for 4 seconds"
    assert re.search(expected, said), said


def test_a_worker_that_reads_nothing_is_no_host_that_vanished(group, tmp_path):
    """The system's own way to watch what is sent (TCP_USER_TIMEOUT) ends the connection to a worker that is stopped, too."""
    secret = tmp_path / "secret"
    secret.write_text("only we know")
    secret.chmod(0o600)
    listener = socketserver.listen("", 0)
    threading.Thread(target=socketserver.serve, args=(listener, b"only we know"), daemon=True).start()
    with contextlib.closing(listener):
        gateway = group.makegateway(f"socket=127.0.0.1:{listener.getsockname()[1]}//secret_file={secret}//keepalive=4")
        channel = gateway.remote_exec("import os; channel.send(os.getpid())\nchannel.send(sum(len(channel.receive()) for _ in range(20)))")
        pid = channel.receive(20)
        os.kill(pid, signal.SIGSTOP)
        try:
            sender = threading.Thread(target=lambda: [channel.send(bytes(1 << 20)) for _ in range(20)])
            sender.start()
            time.sleep(10)
            assert sender.is_alive(), "there was room for all of it, so that nobody waited"
        finally:
            os.kill(pid, signal.SIGCONT)
        sender.join(60)
        assert channel.receive(60) == 20 << 20


def options_of(sshd, tmp_path, addition, key=""):
    """What of this the `ssh` that has the connection was told, with an addition to the user's configuration."""
    config = tmp_path / "config"
    config.write_text(addition + pathlib.Path(sshd.config).read_text())
    with farexec.Group() as group:
        group.makegateway(f"ssh=farexec-host//ssh_config={config}//python={sys.executable}{key}")
        found = []
        for entry in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                words = pathlib.Path("/proc", entry, "cmdline").read_text().split("\0")
                if words[0].endswith("ssh") and "ControlMaster=yes" in words and str(config) in words:
                    found += [word for word in words if word.startswith("ServerAlive")]
        return found


def test_what_the_configuration_of_ssh_says_goes_first(sshd, tmp_path):
    assert options_of(sshd, tmp_path, "") == ["ServerAliveInterval=15", "ServerAliveCountMax=3"]
    assert options_of(sshd, tmp_path, "Host *\n ServerAliveInterval 7\n") == []
    assert options_of(sshd, tmp_path, "Host *\n ServerAliveInterval 7\n", "//keepalive=20") == [
        "ServerAliveInterval=5",
        "ServerAliveCountMax=3",
    ]
    assert options_of(sshd, tmp_path, "", "//keepalive=0") == ["ServerAliveInterval=0"]
