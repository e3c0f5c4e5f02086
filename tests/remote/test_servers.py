"""The servers and commands of tests/servers.py do what tests rely on. No farexec here: if one of these fails, other failures say little."""

import shlex
import subprocess
import sys

import pytest

import servers
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
