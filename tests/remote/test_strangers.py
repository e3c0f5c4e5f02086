"""Strangers at the socket server, and servers that are strangers: who does not prove that it knows the secret gets nothing, is told
nothing, and holds up nobody at another address. Addresses other than 127.0.0.1 are the loopback network's."""

import contextlib
import hashlib
import hmac
import os
import resource
import socket
import stat
import subprocess
import sys
import threading

import pytest

import farexec
from farexec import socketserver
from processes import wait_until

SECRET = b"only we know"
GREETING = len(socketserver.MAGIC) + socketserver.NONCE


def digest(who, challenge, own, secret=SECRET):
    """As docs/PROTOCOL.md has it, in words of its own."""
    return hmac.new(secret, who + challenge + own, hashlib.sha256).digest()


@contextlib.contextmanager
def connected(port, source="127.0.0.1"):
    with socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0)) as connection:
        yield connection


def receive_exactly(connection, size):
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        assert chunk, "the connection was closed"
        data += chunk
    return data


def everything_from(connection):
    """All that still comes; a connection that is reset has ended as well."""
    data = b""
    try:
        while chunk := connection.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass
    return data


def challenge_of(connection):
    greeting = receive_exactly(connection, GREETING)
    assert greeting.startswith(socketserver.MAGIC)
    return greeting[-socketserver.NONCE :]


@pytest.fixture
def served():
    """A function that starts a server within this process; returns its port and the lines that it logs. The worker of each coordinator is
    waited for, so that none is left to the next test."""
    listeners = []

    logs = []

    def start():
        listener = socketserver.listen("", 0)
        listeners.append(listener)
        lines = []
        logs.append(lines)
        arguments = (listener, SECRET, False, lines.append)
        threading.Thread(target=socketserver.serve, args=arguments, daemon=True).start()
        return listener.getsockname()[1], lines

    yield start
    for listener in listeners:
        socketserver.close_listener(listener)
    for lines in logs:
        wait_until(lambda lines=lines: len(about(lines, "has a worker")) == len(about(lines, "ended with status")))


def about(lines, text):
    return [line for line in lines if text in line]


@pytest.fixture
def secret_file(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    path.chmod(0o600)
    return path


def assert_serves(port, secret_file):
    with farexec.Group() as group:
        gateway = group.makegateway(f"socket=127.0.0.1:{port}//secret_file={secret_file}")
        assert gateway.remote_exec("channel.send(42)").receive(10) == 42


# Clients that are strangers.


def test_it_listens_on_loopback_unless_told_otherwise():
    listener = socketserver.listen("", 0)
    with contextlib.closing(listener):
        assert listener.getsockname()[0] == "127.0.0.1"


def test_a_wrong_proof_gets_nothing(served):
    port, lines = served()
    with connected(port) as connection:
        challenge = challenge_of(connection)
        own = os.urandom(32)
        connection.sendall(own + digest(b"coordinator", challenge, own, b"a guess"))
        assert everything_from(connection) == b""
    wait_until(lambda: lines)
    assert lines == ["127.0.0.1 does not know the secret (failure 1 in a row; the next attempt waits 0.1 seconds)"]


def test_a_proof_is_of_no_use_a_second_time(served):
    port, lines = served()
    with connected(port) as connection:
        challenge = challenge_of(connection)
        own = os.urandom(32)
        proof = own + digest(b"coordinator", challenge, own)
        connection.sendall(proof)
        assert receive_exactly(connection, 32) == digest(b"server", own, challenge)
    with connected(port) as connection:
        challenge_of(connection)
        connection.sendall(proof)
        assert everything_from(connection) == b""
    wait_until(lambda: any("does not know the secret" in line for line in lines))


def test_a_servers_proof_is_no_coordinators(served):
    """What a server says of itself must not open another server with the same secret."""
    port, _ = served()
    with connected(port) as connection:
        challenge = challenge_of(connection)
        own = os.urandom(32)
        connection.sendall(own + digest(b"server", challenge, own))
        assert everything_from(connection) == b""


def test_megabytes_are_not_read(served):
    port, _ = served()
    with connected(port) as connection:
        challenge_of(connection)
        try:
            for _ in range(64):
                connection.sendall(bytes(1 << 20))
        except (ConnectionResetError, BrokenPipeError):
            return
        pytest.fail("64 MiB went to a server that knows nobody")


def test_a_slow_one_has_no_longer_than_others(served, monkeypatch):
    monkeypatch.setattr(socketserver, "HANDSHAKE_TIMEOUT", 0.5)
    port, lines = served()
    with connected(port) as connection:
        challenge_of(connection)
        connection.settimeout(0.1)
        for _ in range(64):
            connection.sendall(b"x")
            try:
                assert connection.recv(1) == b""
                break
            except TimeoutError:
                continue
            except ConnectionResetError:
                break
        else:
            pytest.fail("64 bytes took more than six seconds, and the server waited for them")
    wait_until(lambda: any("no proof within" in line for line in lines))


def test_silent_ones_hold_up_nobody_elsewhere(served, secret_file):
    port, lines = served()
    with contextlib.ExitStack() as stack:
        for _ in range(socketserver.MOST_UNPROVED):
            challenge_of(stack.enter_context(connected(port, "127.0.0.2")))
        with connected(port, "127.0.0.2") as one_more:
            assert everything_from(one_more) == b""
        assert_serves(port, secret_file)
    assert any(line.startswith("127.0.0.2 has too many connections") for line in lines)
    # Places become free again.
    wait_until(lambda: any("was closed while the secret was asked for" in line for line in lines))
    with connected(port, "127.0.0.2") as connection:
        challenge_of(connection)


def test_a_silent_one_holds_up_nobody_where_one_is_served(secret_file):
    """The server for one connection (`--once`, `installvia=`) waited ten seconds for whoever came first."""
    command = [sys.executable, socketserver.__file__, "127.0.0.1:0", "--secret-file", str(secret_file), "--once"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            port = int(server.stdout.readline().rpartition(":")[2])
            with connected(port) as silent:
                challenge_of(silent)
                assert_serves(port, secret_file)
            assert server.wait(20) == 0
        finally:
            server.kill()


def test_who_failed_waits_and_others_do_not(served, monkeypatch, secret_file):
    monkeypatch.setattr(socketserver, "FIRST_PAUSE", 3600.0)
    monkeypatch.setattr(socketserver, "LONGEST_PAUSE", 3600.0)
    port, lines = served()
    with connected(port, "127.0.0.2") as connection:
        challenge_of(connection)
        connection.sendall(bytes(64))
        assert everything_from(connection) == b""
    wait_until(lambda: lines)
    with connected(port, "127.0.0.2") as connection:
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
    assert_serves(port, secret_file)


def test_pauses_grow_and_a_proof_ends_them():
    lines = []
    doorkeeper = socketserver.Doorkeeper(lines.append)
    address, other = ("192.0.2.1", 1), ("192.0.2.2", 1)
    for _ in range(9):
        doorkeeper.failed(address)
    pauses = [line.rpartition("waits ")[2] for line in lines]
    assert pauses == [f"{seconds} seconds)" for seconds in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, "5.0", "5.0", "5.0")]
    assert doorkeeper.pause(address) > 0 == doorkeeper.pause(other)
    doorkeeper.proved(address)
    assert doorkeeper.pause(address) == 0


def test_what_is_remembered_is_bounded():
    doorkeeper = socketserver.Doorkeeper(lambda line: None)
    for number in range(socketserver.MOST_REMEMBERED + 100):
        doorkeeper.failed((f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1))
    assert len(doorkeeper.failures) == socketserver.MOST_REMEMBERED
    admitted = sum(doorkeeper.admits((f"10.0.{number >> 8}.{number & 255}", 1)) for number in range(5000))
    assert admitted == socketserver.MOST_UNPROVED_IN_ALL
    assert len(doorkeeper.unproved) == admitted and len(doorkeeper.crowded) <= socketserver.MOST_REMEMBERED


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2", True),
    ],
)
def test_a_network_of_ipv6_counts_as_one_address(one, other, same):
    assert (socketserver.network_of((one, 1, 0, 0)) == socketserver.network_of((other, 1, 0, 0))) is same


def test_a_server_without_descriptors_goes_on_afterwards(secret_file):
    """It ended: `accept` fails when there is no descriptor left, which any stranger could bring about."""
    command = [sys.executable, socketserver.__file__, "127.0.0.1:0", "--secret-file", str(secret_file)]

    def few_descriptors():
        resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=few_descriptors) as server:
        try:
            port = int(server.stdout.readline().rpartition(":")[2])
            with contextlib.ExitStack() as stack:
                for number in range(48):
                    stack.enter_context(connected(port, f"127.0.1.{number}"))
                while "was not accepted" not in server.stdout.readline():
                    pass
            assert_serves(port, secret_file)
        finally:
            server.kill()


# Servers that are strangers.


@pytest.fixture
def fake_server():
    """A function that has `behave(connection)` meet one coordinator; returns the port, and a list to which the bytes go that come after."""
    listeners = []

    def start(behave):
        listener = socketserver.listen("", 0)
        listeners.append(listener)
        rest = []

        def meet():
            connection, _ = listener.accept()
            with connection:
                try:
                    behave(connection)
                    rest.append(everything_from(connection))
                except OSError as error:
                    rest.append(error)

        threading.Thread(target=meet, daemon=True).start()
        return listener.getsockname()[1], rest

    yield start
    for listener in listeners:
        socketserver.close_listener(listener)


def assert_refused(group, port, secret_file, error, text):
    with pytest.raises(error, match=text):
        group.makegateway(f"socket=127.0.0.1:{port}//secret_file={secret_file}")


def test_a_server_that_does_not_know_the_secret_is_sent_nothing(group, fake_server, secret_file):
    def behave(connection):
        connection.sendall(socketserver.MAGIC + bytes(32))
        receive_exactly(connection, 64)
        connection.sendall(os.urandom(32))

    port, rest = fake_server(behave)
    assert_refused(group, port, secret_file, farexec.AuthenticationFailed, "does not know our secret")
    wait_until(lambda: rest)
    assert rest == [b""], "nothing but nonce and proof goes to a server that has proved nothing"


def test_a_servers_answer_is_of_no_use_a_second_time(group, fake_server, secret_file):
    nonce, answer = os.urandom(32), digest(b"server", os.urandom(32), bytes(32))

    def behave(connection):
        connection.sendall(socketserver.MAGIC + nonce)
        receive_exactly(connection, 64)
        connection.sendall(answer)

    port, rest = fake_server(behave)
    assert_refused(group, port, secret_file, farexec.AuthenticationFailed, "does not know our secret")
    wait_until(lambda: rest)
    assert rest == [b""]


def test_what_a_coordinator_proves_is_not_what_a_server_proves(group, fake_server, secret_file):
    """A server that sends everything back has proved nothing."""

    def behave(connection):
        connection.sendall(socketserver.MAGIC + bytes(32))
        connection.sendall(receive_exactly(connection, 64)[32:])

    port, _ = fake_server(behave)
    assert_refused(group, port, secret_file, farexec.AuthenticationFailed, "does not know our secret")


def test_a_server_that_sends_megabytes(group, fake_server, secret_file):
    port, rest = fake_server(lambda connection: connection.sendall(bytes(64 << 20)))
    assert_refused(group, port, secret_file, farexec.HostNotFound, "no farexec socket server")
    wait_until(lambda: rest)
    assert isinstance(rest[0], OSError), "64 MiB went to a coordinator that knows nobody"


def test_a_server_that_hangs_up(group, fake_server, secret_file):
    port, _ = fake_server(lambda connection: connection.shutdown(socket.SHUT_RDWR))
    assert_refused(group, port, secret_file, farexec.HostNotFound, "closed the connection at once")


def test_silent_and_slow_servers_are_given_up(fake_server, secret_file):
    forever = threading.Event()

    def drip(connection):
        for byte in socketserver.MAGIC + bytes(32):
            if forever.wait(1):
                return
            connection.sendall(bytes([byte]))

    def try_it(behave):
        port, _ = fake_server(behave)
        with farexec.Group() as group, pytest.raises(farexec.HostUnreachable, match="within 10 seconds") as caught:
            group.makegateway(f"socket=127.0.0.1:{port}//secret_file={secret_file}")
        errors.append(caught.value)

    errors = []
    threads = [threading.Thread(target=try_it, args=(behave,)) for behave in (lambda connection: forever.wait(), drip)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(45)
    forever.set()
    assert len(errors) == 2


# Secrets.


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_secret_that_others_may_read_is_refused(group, secret_file, mode):
    secret_file.chmod(mode)
    with pytest.raises(ValueError, match=f"its mode is {mode:03o}.: chmod 600 it"):
        group.makegateway(f"socket=127.0.0.1:1//secret_file={secret_file}")
    command = [sys.executable, socketserver.__file__, "127.0.0.1:0", "--secret-file", str(secret_file)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert result.returncode == 2 and "chmod 600 it" in result.stderr
    assert stat.S_IMODE(secret_file.stat().st_mode) == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_secret_of_somebody_else_is_refused(group, secret_file):
    """What somebody else wrote is not our secret. That it is root's is fine, so this is seen as another user."""
    os.chown(secret_file, 65534, 65534)
    with pytest.raises(ValueError, match="belongs to another user, with the number 65534"):
        group.makegateway(f"socket=127.0.0.1:1//secret_file={secret_file}")
    with pytest.raises(ValueError, match="belongs to another user, with the number 65534"):
        socketserver.read_secret(str(secret_file))


def test_an_empty_secret_is_none(group, secret_file, monkeypatch):
    secret_file.write_text("\n")
    with pytest.raises(ValueError, match="the file is empty"):
        group.makegateway(f"socket=127.0.0.1:1//secret_file={secret_file}")
    with pytest.raises(ValueError, match="is empty"):
        socketserver.read_secret(str(secret_file))
    monkeypatch.setenv("FAREXEC_SECRET", "")
    with pytest.raises(ValueError, match="the server wants a secret"):
        group.makegateway("socket=127.0.0.1:1")


def test_the_secret_is_not_handed_on(group, monkeypatch):
    """Workers of a server had its environment, the secret included."""
    environment = {**os.environ, "FAREXEC_SECRET": "of the environment"}
    command = [sys.executable, socketserver.__file__, "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            port = int(server.stdout.readline().rpartition(":")[2])
            monkeypatch.setenv("FAREXEC_SECRET", "of the environment")
            gateway = group.makegateway(f"socket=127.0.0.1:{port}")
            assert gateway.remote_exec("import os; channel.send('FAREXEC_SECRET' in os.environ)").receive(10) is False
        finally:
            server.kill()
