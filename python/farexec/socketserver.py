#!/usr/bin/env python
"""Lets coordinators that know a secret start workers on this machine: ``python socketserver.py [HOST]:PORT``.

One file that needs nothing but Python 2.7 or 3.6 and newer: copy it to where nothing is installed. It listens on loopback unless
told otherwise. Every coordinator proves that it knows the secret, and is shown that the server does, before anything else is read
(section 7 of docs/PROTOCOL.md); then it gets a worker in a process of its own, which ends with its connection.

The secret is the content of the file that ``--secret-file`` names, or the environment variable ``FAREXEC_SECRET``. Without either,
one is made and printed. Coordinators take it from ``secret_file=`` in their spec, or from the same variable. The connection itself is not
encrypted: across a network that is not your own, tunnel it.
"""

import binascii
import hashlib
import hmac
import os
import socket
import subprocess
import sys
import threading

MAGIC = b"FAREXEC-SOCKET 1"
NONCE = 32
HANDSHAKE_TIMEOUT = 10.0  # seconds

STAGE_0 = (
    r'exec("import os,zlib\ndef r(n,b=b\"\"):\n while len(b)<n:\n  c=os.read(0,n-len(b))\n  if not c:os._exit(0)\n  b+=c\n return b\n'
    r'exec(compile(zlib.decompress(r(int(r(8)))),\"<farexec worker>\",\"exec\"))",{"__name__":"farexec_worker"})'
)


def listen(host, port):
    """Returns a socket that listens."""
    family, kind, protocol, _, address = socket.getaddrinfo(host or "127.0.0.1", port, 0, socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(64)
    return listener


def serve(listener, secret, once=False, say=lambda line: None):
    """Gives each coordinator that proves itself a worker, until the socket is closed; `once`: only the first."""
    while True:
        try:
            connection, address = listener.accept()
        except (OSError, socket.error):
            return
        if once:
            if start_worker(connection, address, secret, say):
                return
        else:
            thread = threading.Thread(target=start_worker, args=(connection, address, secret, say, True))
            thread.daemon = True
            thread.start()


def start_worker(connection, address, secret, say, wait=False):
    """Returns whether the coordinator proved itself and has a worker now."""
    try:
        connection.settimeout(HANDSHAKE_TIMEOUT)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not is_trusted(connection, secret):
            say("%s does not know the secret" % (address[0],))
            return False
        connection.settimeout(None)
        process = subprocess.Popen(
            [sys.executable, "-c", STAGE_0], stdin=connection.fileno(), stdout=connection.fileno(), close_fds=True, **new_session()
        )
    except (OSError, socket.error) as error:
        say("%s: %s" % (address[0], error))
        return False
    finally:
        connection.close()
    say("%s has a worker with pid %d" % (address[0], process.pid))
    if wait:
        say("the worker with pid %d ended with status %d" % (process.pid, process.wait()))
    return True


def new_session():
    return {"preexec_fn": os.setsid} if sys.version_info[0] == 2 else {"start_new_session": True}


def is_trusted(connection, secret):
    """Challenge and response both ways: nobody learns the secret, and an answer is of no use a second time."""
    ours = os.urandom(NONCE)
    connection.sendall(MAGIC + ours)
    answer = receive_exactly(connection, 2 * NONCE)
    theirs, proof = answer[:NONCE], answer[NONCE:]
    if not hmac.compare_digest(proof, prove(secret, b"coordinator", ours, theirs)):
        return False
    connection.sendall(prove(secret, b"server", theirs, ours))
    return True


def prove(secret, who, challenge, own):
    return hmac.new(secret, who + challenge + own, hashlib.sha256).digest()


def receive_exactly(connection, size):
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
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
        try:
            listener.shutdown(socket.SHUT_RDWR)
        except (OSError, socket.error):
            pass
        listener.close()

    thread = threading.Thread(target=give_up)
    thread.daemon = True
    thread.start()
    serve(listener, secret, once=True)


def read_secret(path):
    if path:
        with open(path, "rb") as stream:
            secret = stream.read().strip()
    else:
        secret = os.environ.get("FAREXEC_SECRET", "").encode("utf-8")
    return secret


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(arguments=None):
    import argparse

    parser = argparse.ArgumentParser(description="Lets coordinators that know a secret start workers on this machine.")
    parser.add_argument("address", nargs="?", default=":8888", help="[HOST]:PORT to listen on; without HOST loopback (default :8888)")
    parser.add_argument("--secret-file", metavar="FILE", help="file with the secret; else FAREXEC_SECRET, else one is made and printed")
    parser.add_argument("--once", action="store_true", help="serve one coordinator and end")
    options = parser.parse_args(arguments)
    host, _, port = options.address.rpartition(":")
    if not port.isdigit():
        parser.error("%r is no address: write [HOST]:PORT" % options.address)
    try:
        secret = read_secret(options.secret_file)
    except (IOError, OSError) as error:
        parser.error("cannot read the secret: %s" % error)
    if options.secret_file and not secret:
        parser.error("%s is empty" % options.secret_file)
    try:
        listener = listen(host.strip("[]"), int(port))
    except (OSError, socket.error) as error:
        parser.error("cannot listen on %s: %s" % (options.address, error))
    name = listener.getsockname()
    say("listening on %s:%d" % (name[0], name[1]))
    if not secret:
        secret = binascii.hexlify(os.urandom(16))
        say("the secret is %s" % secret.decode("ascii"))
    try:
        serve(listener, secret, options.once, say)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
