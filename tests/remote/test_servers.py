"""The servers and commands of tests/servers.py do what tests rely on. No farexec here: if one of these fails, other failures say little."""

import pathlib
import shlex
import subprocess
import sys

import pytest

import servers
from keeper import descendants
from processes import wait_until_gone

ECHO = """
import sys
while True:
    data = sys.stdin.buffer.read1(65536)
    if not data:
        break
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
"""
# Every byte value after every other, to a mebibyte and a little more.
DATA = b"".join(bytes([first, second]) for first in range(256) for second in range(256)) * 8 + bytes(range(256))


def assert_binary_clean(command):
    """Sends bytes through an echo, first one by one with the answer awaited, then a mebibyte at once."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        for value in b"\n\r\0\x04\x11\x13\x1a~.\xff":
            process.stdin.write(bytes([value]))
            process.stdin.flush()
            answer = process.stdout.read(1)
            assert answer == bytes([value]), process.stderr.read()
        answer, errors = process.communicate(DATA, timeout=30)
    assert process.returncode == 0, errors
    assert answer == DATA
    assert errors == b""


# Starts a process in a session of its own, says its id, and waits for it.
DETACH = ["sh", "-c", "setsid sleep 600 & echo $!; wait"]


def start_and_detach(command):
    """Starts the command that `DETACH` is part of; returns it, and the id of what it started, as that is known at the other end."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return process, int(process.stdout.readline())


def end(process):
    """Ends a command that was started by `start_and_detach`."""
    process.terminate()
    process.wait(timeout=20)
    process.stdout.close()


def with_argument(part):
    """The processes that have this in their command line."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if part.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


class TestSshd:
    @pytest.fixture(autouse=True)
    def need(self, sshd):
        """Without the server, no test of it can run."""

    def test_it_is_binary_clean(self, sshd):
        assert_binary_clean([*sshd.command(), shlex.join([sys.executable, "-c", ECHO])])

    @pytest.mark.parametrize(
        ("host", "message"),
        [
            ("farexec-denied", "Permission denied (publickey)"),
            ("farexec-closed", "Connection refused"),
            ("farexec-unknown", "Could not resolve hostname name.invalid"),
        ],
    )
    def test_errors(self, sshd, host, message):
        result = subprocess.run([*sshd.command(host), "true"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
        assert result.returncode == 255
        assert message in result.stderr
        assert result.stdout == ""

    def test_connections_are_counted(self, sshd):
        before = sshd.connections()
        subprocess.run([*sshd.command(), "true"], stdin=subprocess.DEVNULL, check=True, timeout=20)
        assert sshd.connections() == before + 1

    def test_a_shared_connection_counts_once(self, sshd, tmp_path):
        before = sshd.connections()
        options = ["-o", f"ControlPath={tmp_path}/control", "-o", "ControlMaster=auto"]
        command = [*sshd.command()[:-1], *options, "farexec-host"]
        with subprocess.Popen([*command, "echo ready; cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as master:
            assert master.stdout.readline() == b"ready\n"
            subprocess.run([*command, "true"], stdin=subprocess.DEVNULL, check=True, timeout=20)
            assert sshd.connections() == before + 1
            master.communicate(timeout=20)

    def test_nothing_is_left(self, tmp_path):
        with servers.sshd(tmp_path) as running:
            client, pid = start_and_detach([*running.command(), shlex.join(DETACH)])
            pids = [*running.server.pids(), pid]
            assert pid in running.server.pids()
        assert client.wait(timeout=20) == 255
        client.stdout.close()
        wait_until_gone(*pids)


class TestSlurm:
    @pytest.fixture(autouse=True)
    def need(self, slurm):
        """Without the server, no test of it can run."""

    def test_it_is_binary_clean(self, slurm):
        assert_binary_clean([*slurm.command(), sys.executable, "-c", ECHO])

    def test_it_has_two_nodes(self, slurm):
        for node in ("n1", "n2"):
            command = [*slurm.command(f"--nodelist={node}"), "printenv", "SLURMD_NODENAME"]
            result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
            assert (result.returncode, result.stdout) == (0, f"{node}\n")

    def test_jobs_listen_on_loopback_only(self, slurm):
        client, pid = start_and_detach([*slurm.command(), *DETACH])
        assert pid in slurm.pids()
        addresses = servers.listening_addresses([*slurm.pids(), client.pid, *descendants(client.pid)])
        assert addresses
        assert [address for address in addresses if not servers.is_loopback(address)] == []
        end(client)
        wait_until_gone(pid)

    def test_nothing_is_left(self, tmp_path):
        with servers.slurm(tmp_path) as running:
            client, pid = start_and_detach([*running.command(), *DETACH])
            pids = [*running.pids(), pid, client.pid, *descendants(client.pid)]
        client.stdout.close()
        client.wait(timeout=20)  # with which status depends on who ends first: the job, or the daemon it asks
        wait_until_gone(*pids)


class TestPodman:
    def test_it_is_binary_clean(self, podman_command):
        assert_binary_clean([*podman_command, servers.SYSTEM_PYTHON, "-c", ECHO])

    def test_it_is_another_place(self, podman_command, tmp_path):
        file = tmp_path / "file"
        command = [*podman_command, "sh", "-c", f"mkdir -p {tmp_path} && echo there > {file}; cat {file}; echo $$"]
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
        assert (result.returncode, result.stdout) == (0, "there\n1\n"), result.stderr
        assert not file.exists()

    def test_nothing_is_left(self, podman_command, tmp_path):
        with servers.podman(tmp_path) as podman:
            command = podman.command()
            # It heeds neither the end of standard input nor a signal that asks it to end.
            argument = f"farexec-{tmp_path.name}"
            forever = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
            client, _ = start_and_detach([*command, servers.SYSTEM_PYTHON, "-c", forever, argument])
            pids = with_argument(argument)
            assert len(pids) >= 2
        client.stdout.close()
        assert client.wait(timeout=20) != 0
        wait_until_gone(*pids)
        assert with_argument(str(tmp_path)) == []
        assert str(tmp_path) not in pathlib.Path("/proc/mounts").read_text()


class TestBwrap:
    def test_it_is_binary_clean(self, bwrap_command):
        assert_binary_clean([*bwrap_command, sys.executable, "-c", ECHO])

    def test_nothing_is_left(self, bwrap_command):
        client, pid = start_and_detach([*bwrap_command, *DETACH])
        assert pid < 10, "the id inside of the sandbox"
        pids = [client.pid, *descendants(client.pid)]
        assert len(pids) >= 3
        end(client)
        wait_until_gone(*pids)


class TestSudo:
    def test_it_is_binary_clean(self, sudo_command):
        assert_binary_clean([*sudo_command, servers.SYSTEM_PYTHON, "-c", ECHO])

    def test_it_is_another_user(self, sudo_command):
        result = subprocess.run([*sudo_command, "id", "-un"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
        assert (result.returncode, result.stdout) == (0, "nobody\n")

    def test_nothing_is_left(self, sudo_command):
        client, pid = start_and_detach([*sudo_command, "sh", "-c", "echo $$; exec sleep 600"])
        pids = [client.pid, *descendants(client.pid)]
        assert pid in pids
        end(client)
        wait_until_gone(*pids)
