"""Thousands of random byte streams thrown at a socket server and at workers: no crash, no hang, and no memory that they leave taken.
What is thrown at a coordinator comes from a fuzzer, fuzz/fuzz_targets/coordinator.rs, and from tests/test_hostile.py.

Some streams are noise, most are frames that make sense up to a place. They come from a seed, which the report has."""

import pathlib
import random
import socket
import struct
import subprocess
import sys
import threading

import farexec
from farexec import socketserver
from processes import wait_until

STREAMS = 10_000


def memory_of(pid):
    """Bytes that a process has in memory."""
    fields = pathlib.Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()
    return int(fields[0]) * 1024


# The server.


def test_streams_at_a_server(tmp_path, pytestconfig, told):
    chance = random.Random(pytestconfig.getoption("--seed"))
    secret = tmp_path / "secret"
    secret.write_bytes(b"only we know")
    secret.chmod(0o600)
    command = [sys.executable, socketserver.__file__, "127.0.0.1:0", "--secret-file", str(secret)]
    log = tmp_path / "log"
    with log.open("wb") as lines, subprocess.Popen(command, stdout=lines, stderr=lines) as server:
        try:
            wait_until(lambda: log.read_text().endswith("\n"))
            port = int(log.read_text().splitlines()[0].rpartition(":")[2])

            def throw(number):
                # Each from an address of its own, since one that fails has to wait.
                source = f"127.{1 + number // 40_000}.{number // 200 % 200}.{1 + number % 200}"
                stream = chance.randbytes(chance.choice([0, 1, 15, 16, 64, 65, 200, 5000]))
                if chance.random() < 0.3:
                    stream = socketserver.MAGIC + stream
                with socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0)) as connection:
                    try:
                        connection.sendall(stream)
                        connection.shutdown(socket.SHUT_WR)
                        while connection.recv(65536):
                            pass
                    except OSError:
                        pass  # it has closed the connection before it read everything

            for number in range(STREAMS // 10):
                throw(number)
            before = memory_of(server.pid)
            for number in range(STREAMS // 10, STREAMS):
                throw(number)
            grown = memory_of(server.pid) - before
            with farexec.Group() as group:
                gateway = group.makegateway(f"socket=127.0.0.1:{port}//secret_file={secret}")
                assert gateway.remote_exec("channel.send(42)").receive(20) == 42
        finally:
            server.kill()
    told(f"streams: {STREAMS} at a server, which has {grown >> 10} KiB more than after a tenth of them")
    assert grown < 8 << 20
    assert "Traceback" not in log.read_text()


# Workers.


# Forks a worker for each stream, as a template does, since starting an interpreter takes ten times as long as all the rest. Of each it
# tells how it ended, and its memory.
NURSERY = """
import os, resource, struct, sys, types

worker = types.ModuleType("farexec_worker")
exec(compile(open(sys.argv[1]).read(), "worker.py", "exec"), worker.__dict__)
sys.modules["farexec_worker"] = worker
commands, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
null = os.open(os.devnull, os.O_RDWR)
while True:
    length = commands.read(4)
    if not length:
        break
    stream = commands.read(struct.unpack("<I", length)[0])
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.dup2(ours, 0)
        os.dup2(null, 1)
        os.close(ours), os.close(theirs)
        code = 0
        try:
            worker.main()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        except BaseException:
            import traceback
            traceback.print_exc()
            code = 99
        os._exit(code or 0)
    os.close(ours)
    try:
        while stream:
            stream = stream[os.write(theirs, stream):]
    except BrokenPipeError:
        pass
    os.close(theirs)
    _, status, used = os.wait4(pid, 0)
    answers.write(struct.pack("<iq", os.waitstatus_to_exitcode(status), used.ru_maxrss))
    answers.flush()
"""

START, HELLO, EXTENSION, EXECUTE, ITEM, OPEN, LAST, CLOSE, CLOSE_ERROR, RECONFIGURE = 1, 2, 3, 16, 17, 18, 19, 20, 21, 22
STATUS, STATUS_REPLY, PING, PONG, TERMINATE, CREDIT, RING, SWITCH = 32, 33, 34, 35, 48, 128, 129, 130
KINDS = [
    EXTENSION,
    EXECUTE,
    ITEM,
    OPEN,
    LAST,
    CLOSE,
    CLOSE_ERROR,
    RECONFIGURE,
    STATUS,
    STATUS_REPLY,
    PING,
    PONG,
    TERMINATE,
    CREDIT,
    RING,
    SWITCH,
]
SOURCES = ["pass", "channel.send(1)", "1 / 0", "for item in channel: channel.send(item)", "not python", "channel.receive()"]


def frame(kind, payload=b"", channel=0, flags=1):
    return struct.pack("<BBII", kind, flags, channel, len(payload)) + payload


def dumped(value):
    return farexec.dumps(value)[1:]


def random_stream(chance):
    if chance.random() < 0.1:
        return chance.randbytes(chance.randrange(200))
    start = {"protocol": 1, "id": "x", "grace": 0.1}
    if chance.random() < 0.2:
        start = chance.choice(
            [[], None, {"protocol": "x"}, {"execmodel": "no"}, {"threads": "none"}, {"max_pending": -1}, {"env": 1}, {"nice": "x"}]
        )
    stream = frame(START, dumped(start))
    for _ in range(chance.randrange(30)):
        kind = chance.choice(KINDS)
        value = chance.choice([None, 1, "text", [1, [2]], {"a": 1.5}, {"text": "boom"}, {"source": chance.choice(SOURCES)}, {"grace": 0.0}])
        payload = chance.choice([dumped(value), chance.randbytes(chance.randrange(40)), b""])
        if kind == EXECUTE and chance.random() < 0.8:
            payload = dumped({"source": chance.choice(SOURCES)})
        stream += frame(kind, payload, chance.choice([0, 1, 2, 3, 4, 1 << 31]), chance.choice([0, 1, 255]))
    stream = bytearray(stream)
    for _ in range(chance.randrange(3) if chance.random() < 0.3 else 0):
        stream[chance.randrange(len(stream))] ^= 1 << chance.randrange(8)
    return bytes(stream)


def test_streams_at_workers(tmp_path, pytestconfig, told):
    seed = pytestconfig.getoption("--seed")
    program = tmp_path / "nursery.py"
    program.write_text(NURSERY)
    worker = pathlib.Path(farexec.__file__).with_name("worker.py")
    ends, memory = {}, []

    def throw(number):
        """Throws its part of the streams, at workers from a nursery of its own."""
        chance = random.Random(seed + number)
        command = [sys.executable, "-S", str(program), str(worker)]
        log = tmp_path / f"log-{number}"
        with log.open("wb") as errors, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as nursery:
            for _ in range(STREAMS // 2):
                stream = random_stream(chance)
                nursery.stdin.write(struct.pack("<I", len(stream)) + stream)
                nursery.stdin.flush()
                answer = nursery.stdout.read(12)
                if len(answer) < 12:
                    break
                code, used = struct.unpack("<iq", answer)
                ends.setdefault(code, stream)
                memory.append(used)
            nursery.stdin.close()

    threads = [threading.Thread(target=throw, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(memory) == STREAMS
    told(f"streams: {STREAMS} at workers, which ended with {sorted(ends)}; they took up to {max(memory) >> 10} MiB")
    assert set(ends) <= {0, 1}, {code: stream for code, stream in ends.items() if code not in (0, 1)}
    assert max(memory) < 100 << 10
    errors = "".join((tmp_path / f"log-{number}").read_text(errors="replace") for number in range(2))
    assert "MemoryError" not in errors and "Traceback" not in errors
