"""TLS to the socket server: the certificate is the one that the spec names, it is valid today, and nothing is sent before that is known."""

import contextlib
import hashlib
import os
import socket
import ssl
import stat
import subprocess
import sys
import threading

import pytest

import farexec
from farexec import socketserver
from processes import wait_until, wait_until_gone

SECRET = b"only we know"


@pytest.fixture
def secret_file(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    path.chmod(0o600)
    return path


@pytest.fixture
def pair(tmp_path):
    """A certificate and its key, as the server makes them, and the part of a spec that names its fingerprint."""
    return make_pair(tmp_path, "own")


def make_pair(folder, name):
    certificate, key = folder / f"{name}-cert.pem", folder / f"{name}-key.pem"
    command = [sys.executable, socketserver.__file__, "--make-certificate", "--tls-cert", str(certificate), "--tls-key", str(key)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    return certificate, key, said


AUTHORITY = """
[ca]
default_ca = own
[own]
database = {folder}/index
new_certs_dir = {folder}
serial = {folder}/serial
default_md = sha256
policy = any
x509_extensions = extensions
[any]
commonName = supplied
[extensions]
basicConstraints = CA:FALSE
"""


def pair_of_another_time(folder, first, last):
    """A certificate that signs itself, valid between these times."""
    certificate, key, request, config = (folder / f"other-{name}" for name in ("cert.pem", "key.pem", "request.pem", "config"))
    config.write_text(AUTHORITY.format(folder=folder))
    (folder / "index").touch()
    (folder / "serial").write_text("01\n")
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key)]
    signing = ["-selfsign", "-batch", "-notext", "-keyfile", str(key), "-startdate", first, "-enddate", last]
    for command in (
        ["req", "-new", *new_key, "-out", str(request), "-subj", "/CN=farexec"],
        ["ca", "-config", str(config), *signing, "-in", str(request), "-out", str(certificate)],
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True, timeout=30)
    return certificate, key


@contextlib.contextmanager
def server(secret_file, pair, *options):
    """A server with this certificate: its port, and the process."""
    command = [sys.executable, socketserver.__file__, "127.0.0.1:0", "--secret-file", str(secret_file)]
    command += ["--tls-cert", str(pair[0]), "--tls-key", str(pair[1]), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline().rpartition(":")[2]), process
        finally:
            process.kill()


def test_items_go_both_ways(group, secret_file, pair):
    with server(secret_file, pair) as (port, _):
        gateway = group.makegateway(f"socket=127.0.0.1:{port}//secret_file={secret_file}//{pair[2]}")
        channel = gateway.remote_exec("for item in channel: channel.send(item)")
        for item in (42, "text", [1, 2.5], os.urandom(5 << 20)):
            channel.send(item)
            assert channel.receive(30) == item


def test_both_directions_at_once(group, secret_file, pair):
    """More than any buffer between the two holds, sent by both before either receives."""
    with server(secret_file, pair) as (port, _):
        gateway = group.makegateway(f"socket=127.0.0.1:{port}//secret_file={secret_file}//{pair[2]}")
        channel = gateway.remote_exec(
            """
            for _ in range(16):
                channel.send(bytes(1 << 20))
            channel.send(sum(len(channel.receive()) for _ in range(16)))
            """
        )
        for _ in range(16):
            channel.send(bytes(1 << 20))
        assert sum(len(channel.receive(30)) for _ in range(16)) == 16 << 20
        assert channel.receive(30) == 16 << 20


def test_a_certificate_in_a_file(group, secret_file, pair):
    with server(secret_file, pair) as (port, _):
        gateway = group.makegateway(f"socket=127.0.0.1:{port}//secret_file={secret_file}//tls={pair[0]}")
        assert gateway.remote_exec("channel.send(42)").receive(10) == 42


def test_a_fingerprint_as_openssl_prints_it(group, secret_file, pair):
    command = ["openssl", "x509", "-in", str(pair[0]), "-noout", "-fingerprint", "-sha256"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip().rpartition("=")[2]
    assert printed.count(":") == 31
    with server(secret_file, pair) as (port, _):
        gateway = group.makegateway(f"socket=127.0.0.1:{port}//secret_file={secret_file}//tls=sha256:{printed}")
        assert gateway.remote_exec("channel.send(42)").receive(10) == 42


def test_workers_end_with_the_gateway_and_say_so(group, secret_file, pair):
    with server(secret_file, pair) as (port, _):
        gateway = group.makegateway(f"socket=127.0.0.1:{port}//secret_file={secret_file}//{pair[2]}")
        pid = gateway.remote_exec("import os; channel.send(os.getpid())").receive(10)
        group.terminate(timeout=10)
        wait_until_gone(pid)
        other = group.makegateway(f"socket=127.0.0.1:{port}//secret_file={secret_file}//{pair[2]}")
        channel = other.remote_exec("import os; channel.send(1); os._exit(3)")
        assert channel.receive(10) == 1
        with pytest.raises(EOFError, match="was lost"):
            channel.receive(10)


def test_a_server_for_one(group, secret_file, pair):
    """It stays until the worker has ended, whose bytes it carries."""
    with server(secret_file, pair, "--once") as (port, process):
        gateway = group.makegateway(f"socket=127.0.0.1:{port}//secret_file={secret_file}//{pair[2]}")
        assert gateway.remote_exec("channel.send(42)").receive(10) == 42
        group.terminate(timeout=10)
        assert process.wait(20) == 0


# Whom not to trust.


@pytest.fixture
def stranger():
    """A function that starts a TLS server which greets as a socket server does; it returns the port, and a list to which goes what it
    learns of its coordinator: the bytes, or why there were none."""
    listeners = []

    def start(certificate, key):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        listener = socketserver.listen("", 0)
        listeners.append(listener)
        learnt = []

        def meet():
            connection, _ = listener.accept()
            try:
                with context.wrap_socket(connection, server_side=True) as secure:
                    secure.sendall(socketserver.MAGIC + bytes(32))
                    learnt.append(secure.recv(1 << 16))
            except OSError as error:
                learnt.append(error)

        threading.Thread(target=meet, daemon=True).start()
        return listener.getsockname()[1], learnt

    yield start
    for listener in listeners:
        socketserver.close_listener(listener)


def assert_refused(group, spec, learnt, text):
    with pytest.raises(farexec.AuthenticationFailed, match=text):
        group.makegateway(spec)
    wait_until(lambda: learnt)
    assert isinstance(learnt[0], OSError), f"a server that is not trusted got {learnt[0]!r}"


def test_another_certificate_is_refused_before_anything_is_sent(group, stranger, secret_file, pair, tmp_path):
    other = make_pair(tmp_path, "other")
    for pin in (pair[2], f"tls={pair[0]}"):
        port, learnt = stranger(*other[:2])
        spec = f"socket=127.0.0.1:{port}//secret_file={secret_file}//{pin}"
        shown = "sha256:" + hashlib.sha256(ssl.PEM_cert_to_DER_cert(other[0].read_text())).hexdigest()
        assert_refused(group, spec, learnt, f"the server's certificate, {shown}, is not the one that `tls=` names")


@pytest.mark.parametrize(
    ("first", "last", "text"),
    [
        ("20200101000000Z", "20200201000000Z", "has expired"),
        ("21000101000000Z", "21000201000000Z", "is not valid yet"),
    ],
)
def test_a_certificate_that_is_not_valid_today_is_refused(group, stranger, secret_file, tmp_path, first, last, text):
    certificate, key = pair_of_another_time(tmp_path, first, last)
    port, learnt = stranger(certificate, key)
    assert_refused(group, f"socket=127.0.0.1:{port}//secret_file={secret_file}//tls={certificate}", learnt, text)


def test_one_side_without_tls(group, secret_file, pair):
    with server(secret_file, pair) as (port, _), pytest.raises(farexec.HostNotFound, match="speaks TLS|within 10 seconds"):
        group.makegateway(f"socket=127.0.0.1:{port}//secret_file={secret_file}")
    listener = socketserver.listen("", 0)
    threading.Thread(target=socketserver.serve, args=(listener, SECRET), daemon=True).start()
    with contextlib.closing(listener), pytest.raises(farexec.HostNotFound, match="does not speak TLS"):
        group.makegateway(f"socket=127.0.0.1:{listener.getsockname()[1]}//secret_file={secret_file}//{pair[2]}")


def test_the_secret_is_asked_for_within_tls(group, secret_file, pair, tmp_path):
    other = tmp_path / "other"
    other.write_text("a guess")
    other.chmod(0o600)
    with server(secret_file, pair) as (port, _), pytest.raises(farexec.AuthenticationFailed, match="refused our secret"):
        group.makegateway(f"socket=127.0.0.1:{port}//secret_file={other}//{pair[2]}")


def test_a_silent_client_of_tls_holds_up_nobody(group, secret_file, pair):
    with server(secret_file, pair, "--once") as (port, _), socket.create_connection(("127.0.0.1", port)):
        gateway = group.makegateway(f"socket=127.0.0.1:{port}//secret_file={secret_file}//{pair[2]}")
        assert gateway.remote_exec("channel.send(42)").receive(10) == 42


# Files.


def test_a_certificate_is_not_made_over_another(pair):
    command = [sys.executable, socketserver.__file__, "--make-certificate", "--tls-cert", str(pair[0]), "--tls-key", str(pair[1])]
    before = pair[1].read_bytes()
    result = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert result.returncode == 2 and "exists already" in result.stderr
    assert pair[1].read_bytes() == before


def test_a_key_that_others_may_read_is_refused(pair):
    pair[1].chmod(0o644)
    command = [sys.executable, socketserver.__file__, ":0", "--tls-cert", str(pair[0]), "--tls-key", str(pair[1])]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert result.returncode == 2 and "chmod 600 it" in result.stderr


def test_what_is_no_certificate(group, secret_file, tmp_path):
    (tmp_path / "empty.pem").write_text("")
    for name, text in (("empty.pem", "has no certificate in the form PEM"), ("missing.pem", "No such file")):
        with pytest.raises(ValueError, match=f"`tls=.*{name}` in .*{text}"):
            group.makegateway(f"socket=127.0.0.1:1//secret_file={secret_file}//tls={tmp_path / name}")
