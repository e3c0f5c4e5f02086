#!/usr/bin/env python
"""Lets coordinators that know a secret start workers on this machine: ``python socketserver.py [HOST]:PORT``.

One file that needs nothing but Python 2.7 or 3.6 and newer: copy it to where nothing is installed. It listens on loopback unless
told otherwise. Every coordinator proves that it knows the secret, and is shown that the server does, before anything else is read
(section 7 of docs/PROTOCOL.md); then it gets a worker in a process of its own, which ends with its connection. Who fails waits longer
each time, and who says nothing is sent away after ten seconds; neither holds up anybody at another address.

The secret is the content of the file that ``--secret-file`` names, which only its owner may read, or the environment variable
``FAREXEC_SECRET``. Without either, one is made and printed. Coordinators take it from ``secret_file=`` in their spec, or from the same
variable.

The connection is encrypted if the server has a certificate. ``--make-certificate`` makes one that signs itself, with the program
``openssl``, and the server prints the fingerprint that coordinators name::

    python socketserver.py --make-certificate --tls-cert cert.pem --tls-key key.pem
    python socketserver.py 0.0.0.0:8888 --secret-file secret --tls-cert cert.pem --tls-key key.pem

The spec is ``socket=host:8888//secret_file=secret//tls=sha256:...`` then, or ``tls=cert.pem`` with a copy of the certificate.
"""

import binascii
import collections
import errno
import hashlib
import hmac
import os
import select
import socket
import stat
import subprocess
import sys
import threading
import time

MAGIC = b"FAREXEC-SOCKET 1"
NONCE = 32
HANDSHAKE_TIMEOUT = 10.0  # seconds for all of it

# A wrong proof makes the next attempt from its address wait, twice as long each time. The longest pause is shorter than what a coordinator
# waits for its greeting: one that knows the secret is let in, whoever else is at its address.
FIRST_PAUSE = 0.1  # seconds
LONGEST_PAUSE = 5.0  # seconds

# Connections that have not proved anything yet, from one address and in all; any more are closed at once.
MOST_UNPROVED = 8
MOST_UNPROVED_IN_ALL = 256

# Addresses whose failures are remembered; of more, the oldest are forgotten.
MOST_REMEMBERED = 4096

# What does not keep a listener from accepting the next connection.
PASSING = (errno.ECONNABORTED, errno.EINTR, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EPERM)

STAGE_0 = (
    r'exec("import os,zlib\ndef r(n,b=b\"\"):\n while len(b)<n:\n  c=os.read(0,n-len(b))\n  if not c:os._exit(0)\n  b+=c\n return b\n'
    r'exec(compile(zlib.decompress(r(int(r(8)))),\"<farexec worker>\",\"exec\"))",{"__name__":"farexec_worker"})'
)

# Bytes that are moved at once between a TLS connection and a worker.
CHUNK = 1 << 16

# Days for which a certificate that is made here is valid.
CERTIFICATE_DAYS = 825

# How often the system asks whether a coordinator's host is there, and how often that may leave it unanswered before its worker ends.
PROBE_INTERVAL = 15  # seconds
PROBES = 3

now = getattr(time, "monotonic", time.time)


def listen(host, port):
    """Returns a socket that listens."""
    family, kind, protocol, _, address = socket.getaddrinfo(host or "127.0.0.1", port, 0, socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(64)
    return listener


def close_listener(listener):
    """Closes it, and gets a thread out of `accept`."""
    try:
        listener.shutdown(socket.SHUT_RDWR)
    except (OSError, socket.error):
        pass
    listener.close()


def serve(listener, secret, once=False, say=lambda line: None, tls=None):
    """Gives each coordinator that proves itself a worker, until the socket is closed; `once`: only the first. `tls`: its `ssl` context."""
    doorkeeper = Doorkeeper(say)
    claim = threading.Lock()  # taken by the one that is served, if there is to be one

    def attend(connection, address):
        connection = let_in(connection, address, secret, doorkeeper, say, tls)
        if connection is None:
            return
        if once and not claim.acquire(False):
            connection.close()
            return
        process = start_worker(connection, address, say, tls)
        if once and process is None:
            claim.release()
        elif once:
            served.append(process)
            close_listener(listener)
        elif process is not None:
            say("the worker with pid %d ended with status %d" % (process.pid, process.wait()))

    served = []
    while True:
        try:
            connection, address = listener.accept()
        except (OSError, socket.error) as error:
            if error.errno not in PASSING:
                break
            say("a connection was not accepted: %s" % (error,))
            time.sleep(FIRST_PAUSE)
            continue
        if not doorkeeper.admits(address):
            connection.close()
            continue
        start_thread(attend, connection, address)
    if served and tls is not None:
        served[0].wait()


def start_thread(function, *arguments):
    thread = threading.Thread(target=function, args=arguments)
    thread.daemon = True
    thread.start()
    return thread


class Doorkeeper(object):
    """Knows which addresses failed, and how many connections have proved nothing yet."""

    def __init__(self, say):
        self.say = say
        self.lock = threading.Lock()
        self.unproved = collections.defaultdict(int)
        self.crowded = set()
        self.failures = collections.OrderedDict()  # by address: how many in a row, and until when the next attempt waits

    def admits(self, address):
        """Whether a connection may prove itself. One that may is to `leave`."""
        who = network_of(address)
        with self.lock:
            if self.unproved.get(who, 0) < MOST_UNPROVED and sum(self.unproved.values()) < MOST_UNPROVED_IN_ALL:
                self.unproved[who] += 1
                return True
            is_news = who not in self.crowded
            if len(self.crowded) < MOST_REMEMBERED:
                self.crowded.add(who)
        if is_news:
            self.say("%s has too many connections that do not prove themselves: more are closed unread" % (address[0],))
        return False

    def pause(self, address):
        """Seconds that a connection waits before it is asked for its proof."""
        with self.lock:
            return max(0.0, self.failures.get(network_of(address), (0, 0.0))[1] - now())

    def leave(self, address):
        """A connection has proved itself, or is closed."""
        who = network_of(address)
        with self.lock:
            self.unproved[who] -= 1
            if not self.unproved[who]:
                del self.unproved[who]
                self.crowded.discard(who)

    def failed(self, address):
        """Notes a wrong proof."""
        who = network_of(address)
        with self.lock:
            count = self.failures.pop(who, (0, 0.0))[0] + 1
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(count - 1, 16))
            self.failures[who] = (count, now() + pause)
            if len(self.failures) > MOST_REMEMBERED:
                self.failures.popitem(last=False)
        self.say("%s does not know the secret (failure %d in a row; the next attempt waits %.1f seconds)" % (address[0], count, pause))

    def proved(self, address):
        """Forgets the failures of an address."""
        with self.lock:
            self.failures.pop(network_of(address), None)


def network_of(address):
    """What counts as one address: of IPv6 a network of 64 bits, which whoever has one address of it usually has all of."""
    if ":" not in address[0] or address[0].lower().startswith("::ffff:"):
        return address[0]
    return binascii.hexlify(socket.inet_pton(socket.AF_INET6, address[0].partition("%")[0])[:8])


def let_in(connection, address, secret, doorkeeper, say, tls):
    """The connection, or TLS on it, if the coordinator proved itself; else None, and it is closed."""
    try:
        time.sleep(doorkeeper.pause(address))
        deadline = now() + HANDSHAKE_TIMEOUT
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        probe(connection)
        connection.settimeout(HANDSHAKE_TIMEOUT)
        if tls is not None:
            connection = tls.wrap_socket(connection, server_side=True)
        if is_trusted(connection, secret, deadline):
            doorkeeper.proved(address)
            connection.settimeout(None)
            return connection
        doorkeeper.failed(address)
    except (OSError, socket.error) as error:
        say("%s: %s" % (address[0], error))
    finally:
        doorkeeper.leave(address)
    connection.close()


def probe(connection):
    """Has the system notice that nobody is at the other end any more, as far as it can."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", PROBE_INTERVAL), ("TCP_KEEPINTVL", PROBE_INTERVAL), ("TCP_KEEPCNT", PROBES)):
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def start_worker(connection, address, say, tls):
    """Returns the worker's process; None if there is none, and then the connection is closed."""
    inner = outer = None
    try:
        if tls is not None:
            inner, outer = socket.socketpair()
        descriptor = (outer or connection).fileno()
        process = subprocess.Popen(
            [sys.executable, "-c", STAGE_0],
            stdin=descriptor,
            stdout=descriptor,
            close_fds=True,
            env=dict((name, value) for name, value in os.environ.items() if name != "FAREXEC_SECRET"),
            **new_session()
        )
    except (OSError, socket.error) as error:
        say("%s: %s" % (address[0], error))
        for one in (connection, inner, outer):
            if one is not None:
                one.close()
        return None
    if tls is not None:
        outer.close()
        start_thread(carry, connection, inner)
    else:
        connection.close()
    say("%s has a worker with pid %d" % (address[0], process.pid))
    return process


def carry(connection, inner):
    """Moves bytes between a TLS connection and a worker's socket, until the worker's side has ended. One thread for both directions: a TLS
    connection is not for two at once."""
    connection.setblocking(False)
    inner.setblocking(False)
    to_worker = to_coordinator = b""
    reads_coordinator = reads_worker = True
    while True:
        moved = False
        if reads_coordinator and not to_worker:
            data = attempt(connection.recv, CHUNK)
            if data is not None:
                to_worker, reads_coordinator, moved = data, bool(data), True
                if not data:
                    attempt(inner.shutdown, socket.SHUT_WR)
        if to_worker:
            count = attempt(inner.send, to_worker)
            if count is not None:
                # A worker that is gone takes nothing.
                to_worker, moved = to_worker[count:] if count else b"", True
        if reads_worker and not to_coordinator:
            data = attempt(inner.recv, CHUNK)
            if data is not None:
                to_coordinator, reads_worker, moved = data, bool(data), True
        if to_coordinator:
            count = attempt(connection.send, to_coordinator)
            if count is not None:
                to_coordinator, moved = to_coordinator[count:] if count else b"", True
        if not reads_worker and not to_coordinator:
            attempt(connection.unwrap)
            connection.close()
            inner.close()
            return
        if not moved:
            poller = select.poll()
            waits_in, waits_out = select.POLLIN, select.POLLOUT
            poller.register(connection, (reads_coordinator and not to_worker and waits_in) | (to_coordinator and waits_out or 0))
            poller.register(inner, (reads_worker and not to_coordinator and waits_in) | (to_worker and waits_out or 0))
            poller.poll()


def attempt(function, *arguments):
    """What a call on a socket returns; None if it would have to wait, and something empty if the other end is gone."""
    import ssl

    try:
        return function(*arguments)
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return None
    except (OSError, socket.error) as error:
        return None if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR) else b""


def new_session():
    return {"preexec_fn": os.setsid} if sys.version_info[0] == 2 else {"start_new_session": True}


def is_trusted(connection, secret, deadline):
    """Challenge and response both ways: nobody learns the secret, and an answer is of no use a second time."""
    ours = os.urandom(NONCE)
    connection.settimeout(HANDSHAKE_TIMEOUT)
    connection.sendall(MAGIC + ours)
    answer = receive_exactly(connection, 2 * NONCE, deadline)
    theirs, proof = answer[:NONCE], answer[NONCE:]
    if not hmac.compare_digest(proof, prove(secret, b"coordinator", ours, theirs)):
        return False
    connection.sendall(prove(secret, b"server", theirs, ours))
    return True


def prove(secret, who, challenge, own):
    return hmac.new(secret, who + challenge + own, hashlib.sha256).digest()


def receive_exactly(connection, size, deadline):
    """Never reads more than it is to. The deadline is for all of it, however slowly it comes."""
    data = b""
    while len(data) < size:
        left = deadline - now()
        if left <= 0:
            raise socket.error("no proof within %d seconds" % (HANDSHAKE_TIMEOUT,))
        connection.settimeout(left)
        try:
            chunk = connection.recv(size - len(data))
        except socket.timeout:
            continue
        if not chunk:
            raise socket.error("the connection was closed while the secret was asked for")
        data += chunk
    return data


def serve_one(channel, host, port):
    """What `installvia=` executes at a gateway's worker: serves one coordinator, with a secret of its own."""
    listener = listen(host, port)
    secret = binascii.hexlify(os.urandom(NONCE))
    channel.send([listener.getsockname()[1], secret.decode("ascii")])

    def give_up():
        channel.waitclose()
        close_listener(listener)

    start_thread(give_up)
    serve(listener, secret, once=True)


def read_secret(path):
    """The secret; empty if there is none. A file that others may read is refused."""
    if not path:
        return os.environ.get("FAREXEC_SECRET", "").strip().encode("utf-8")
    with open(path, "rb") as stream:
        check_private(stream, path)
        secret = stream.read().strip()
    if not secret:
        raise ValueError("%s is empty" % path)
    return secret


def check_private(stream, path):
    """Refuses a file with a secret in it that others may read or write, or that is somebody else's."""
    status = os.fstat(stream.fileno())
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise ValueError("others may read or write %s (its mode is %03o): chmod 600 it" % (path, mode))
    if status.st_uid not in (0, os.geteuid()):
        raise ValueError("%s belongs to another user, with the number %d" % (path, status.st_uid))


def read_certificate(certificate, key):
    """Returns the `ssl.SSLContext` of a server with this certificate, and its fingerprint."""
    import ssl

    with open(key, "rb") as stream:
        check_private(stream, key)
    context = ssl.SSLContext(getattr(ssl, "PROTOCOL_TLS_SERVER", ssl.PROTOCOL_SSLv23))
    if hasattr(ssl, "TLSVersion"):
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    else:
        context.options |= ssl.OP_NO_SSLv2 | ssl.OP_NO_SSLv3 | ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1
    context.load_cert_chain(certificate, key)
    with open(certificate) as stream:
        text = stream.read()
    # The first one in the file is the server's own.
    end = "-----END CERTIFICATE-----"
    first = text[text.index("-----BEGIN CERTIFICATE-----") : text.index(end) + len(end)]
    return context, "sha256:" + hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest()


def make_certificate(certificate, key):
    """Makes a certificate that signs itself, and its key, in two files that do not exist yet."""
    for path in (certificate, key):
        if os.path.exists(path):
            raise ValueError("%s exists already" % path)
    os.close(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", key, "-out", certificate, "-days", str(CERTIFICATE_DAYS), "-subj", "/CN=farexec"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = process.communicate()[0]
    if process.returncode != 0:
        raise ValueError("openssl failed: %s" % said.decode("utf-8", "replace").strip())


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments=None):
    import argparse

    parser = argparse.ArgumentParser(description="Lets coordinators that know a secret start workers on this machine.")
    parser.add_argument("address", nargs="?", default=":8888", help="[HOST]:PORT to listen on; without HOST loopback (default :8888)")
    parser.add_argument(
        "--secret-file", metavar="FILE", help="file of mode 600 with the secret; else FAREXEC_SECRET, else one is made and printed"
    )
    parser.add_argument("--once", action="store_true", help="serve one coordinator and end")
    parser.add_argument("--tls-cert", metavar="FILE", help="certificate, in the form PEM: connections are encrypted then")
    parser.add_argument("--tls-key", metavar="FILE", help="the certificate's key, in a file of mode 600")
    parser.add_argument("--make-certificate", action="store_true", help="make both of these, print the fingerprint, and end")
    options = parser.parse_args(arguments)
    if bool(options.tls_cert) != bool(options.tls_key) or (options.make_certificate and not options.tls_cert):
        parser.error("--tls-cert and --tls-key go together")
    tls = None
    try:
        if options.make_certificate:
            make_certificate(options.tls_cert, options.tls_key)
        if options.tls_cert:
            tls, fingerprint = read_certificate(options.tls_cert, options.tls_key)
    except (IOError, OSError, ValueError) as error:
        parser.error("cannot use the certificate: %s" % error)
    if options.make_certificate:
        say("tls=%s" % fingerprint)
        return
    host, _, port = options.address.rpartition(":")
    if not port.isdigit():
        parser.error("%r is no address: write [HOST]:PORT" % options.address)
    try:
        secret = read_secret(options.secret_file)
    except (IOError, OSError, ValueError) as error:
        parser.error("cannot use the secret: %s" % error)
    try:
        listener = listen(host.strip("[]"), int(port))
    except (OSError, socket.error) as error:
        parser.error("cannot listen on %s: %s" % (options.address, error))
    name = listener.getsockname()
    say("listening on %s:%d" % (name[0], name[1]))
    if tls is not None:
        say("the certificate is tls=%s" % fingerprint)
    if not secret:
        secret = binascii.hexlify(os.urandom(16))
        say("the secret is %s" % secret.decode("ascii"))
    try:
        serve(listener, secret, options.once, say, tls)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
