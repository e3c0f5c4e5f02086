"""Workers that mean harm: what stands in an interpreter's place sends garbage, half of something, things out of order, claims and floods.
The coordinator tells what is wrong, takes no memory for it, does not hang, and leaves nothing running.

Random streams come from seeds that the test's name has, so that each is the same every time."""

import json
import os
import random
import struct
import subprocess
import sys
import textwrap

import pytest

import farexec

MARKER = b"\x00\xfeFAREXEC\xfe\x00"
START, HELLO, EXTENSION, EXECUTE, ITEM, OPEN, LAST, CLOSE, CLOSE_ERROR, RECONFIGURE = 1, 2, 3, 16, 17, 18, 19, 20, 21, 22
STATUS, STATUS_REPLY, PING, PONG, TERMINATE, CREDIT, RING, SWITCH = 32, 33, 34, 35, 48, 128, 129, 130
KINDS = [START, HELLO, EXTENSION, EXECUTE, ITEM, OPEN, LAST, CLOSE, CLOSE_ERROR, RECONFIGURE, STATUS, STATUS_REPLY, PING, PONG, TERMINATE]
KINDS += [CREDIT, RING, SWITCH]

# What the coordinator may need more than it has after a good worker. What an attack would take without bounds is a multiple of it.
MOST_MEMORY = 160 << 20


def frame(kind, payload=b"", channel=0, flags=1, length=None):
    return struct.pack("<BBII", kind, flags, channel, len(payload) if length is None else length) + payload


def dumped(value):
    return farexec.dumps(value)[1:]


GOOD_HELLO = {
    "protocol": 1,
    "worker": "pure",
    "implementation": "cpython",
    "version": [3, 11, 0],
    "executable": "/bin/true",
    "platform": sys.platform,
    "machine": os.uname().machine,
    "cwd": "/",
    "pid": 1,
    "reads_message": True,
    "knows_credit": True,
}
ANSWER = MARKER + frame(HELLO, dumped(GOOD_HELLO))

# Stands in the source that the coordinator has executed.
ASKED = b"# now"

# What stands in the interpreter's place: it sends the one file, then the other, once or on and on, and stays until it is cut off. If the
# first is a proper answer, the other is for the channel that the coordinator opens next.
WORKER = f"""\
#!{sys.executable} -SEs
import os
def send(data):
    while data:
        data = data[os.write(1, data):]
folder = os.path.dirname(os.path.abspath(__file__))
first, then = [open(os.path.join(folder, name), "rb").read() for name in ("first", "then")]
how = open(os.path.join(folder, "how")).read()
send(first)
asked = not first.endswith({ANSWER!r})
data = b""
while not asked:
    data = data[-100:] + os.read(0, 65536)
    asked = {ASKED!r} in data
send(then)
while how == "on and on":
    send(then)
while how == "stays" and os.read(0, 65536):
    pass
"""

# A coordinator in a process of its own: its memory is asked for, and a crash of it is seen.
COORDINATOR = textwrap.dedent(
    """
    import json, resource, sys, farexec

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    with farexec.Group() as group:
        group.makegateway().remote_exec("channel.send(1)").receive(20)
    before, told = peak(), []
    with farexec.Group() as group:
        try:
            gateway = group.makegateway("popen//start=spawn//python=" + sys.argv[1])
            gateway.max_pending = json.loads(sys.argv[2])
            channel = gateway.remote_exec("pass # now")
            for _ in range(json.loads(sys.argv[3])):
                try:
                    told.append(repr(channel.receive(1))[:200])
                except farexec.TimeoutError:
                    told.append("nothing")
        except (farexec.StartError, farexec.RemoteError, farexec.LoadError, EOFError, OSError) as error:
            told.append(type(error).__name__ + ": " + str(error))
        group.terminate(timeout=1)
    print(json.dumps({"memory": peak() - before, "told": told}))
    """
)


@pytest.fixture
def attack(tmp_path):
    """A function that has a worker do something to a coordinator; it returns what the coordinator told, in words."""

    def run(first, then=b"", how="stays", max_pending=None, receives=2):
        worker = tmp_path / "hostile"
        worker.write_text(WORKER)
        worker.chmod(0o755)
        for name, content in (("first", first), ("then", then), ("how", how.encode())):
            (tmp_path / name).write_bytes(content)
        command = [sys.executable, "-c", COORDINATOR, str(worker), json.dumps(max_pending), json.dumps(receives)]
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50)
        assert result.returncode == 0, result.stderr
        assert "panicked" not in result.stderr and "Traceback" not in result.stderr
        left = [pid for pid in filter(str.isdigit, os.listdir("/proc")) if str(worker) in command_line(pid)]
        assert left == [], "a worker was left running"
        answer = json.loads(result.stdout)
        assert answer["memory"] < MOST_MEMORY, f"{answer['memory'] >> 20} MiB for {answer['told']}"
        return " | ".join(answer["told"])

    return run


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            return stream.read().decode(errors="replace")
    except OSError:
        return ""


# Before it has answered.


def test_endless_chatter(attack):
    assert "StartError" in attack(b"", b"Welcome! " * 8192, "on and on")


def test_an_end_within_the_marker(attack):
    assert "StartError" in attack(MARKER[:6], how="ends")


def test_a_hello_that_cannot_be_read(attack):
    assert "its HELLO cannot be read" in attack(MARKER + frame(HELLO, os.urandom(64)))


def test_a_hello_of_another_form(attack):
    assert "its HELLO cannot be read" in attack(MARKER + frame(HELLO, dumped([1, 2, 3])))
    assert "its HELLO cannot be read" in attack(MARKER + frame(HELLO, dumped({**GOOD_HELLO, "version": "new", "pid": -1})))


def test_a_version_that_does_not_exist(attack):
    assert "StartError" in attack(MARKER + frame(HELLO, dumped({**GOOD_HELLO, "protocol": 0})))


def test_frames_before_the_hello(attack):
    told = attack(MARKER + frame(CLOSE, channel=1) + frame(ITEM, dumped(1), 1) + frame(HELLO, dumped(GOOD_HELLO)) + frame(CLOSE, channel=1))
    assert told.startswith("EOFError") or told.startswith("nothing"), told


@pytest.mark.parametrize("seed", range(8))
def test_random_bytes(attack, seed):
    generator = random.Random(seed)
    told = attack(generator.randbytes(5) + MARKER + generator.randbytes(generator.randrange(1, 1 << 16)), how="ends")
    assert "StartError" in told


# Afterwards.


@pytest.mark.parametrize("seed", range(16))
def test_random_frames(attack, seed):
    """Frames of every kind, some of them damaged; channels that exist and that do not."""
    generator = random.Random(seed)
    stream = b""
    for _ in range(generator.randrange(1, 300)):
        value = generator.choice([None, 1, "text", [1, [2]], {"a": 1.5}, {"text": "boom", "type": "E"}, generator.randbytes(20)])
        payload = generator.choice([dumped(value), generator.randbytes(generator.randrange(40)), b""])
        stream += frame(generator.choice(KINDS[4:]), payload, generator.choice([0, 1, 2, 3, 4, 1 << 31]), generator.randrange(256))
    stream = bytearray(stream)
    for _ in range(generator.randrange(4)):
        stream[generator.randrange(len(stream))] ^= 1 << generator.randrange(8)
    assert attack(ANSWER, bytes(stream), how=generator.choice(["ends", "stays"]))


def test_a_ring_that_there_is_not(attack):
    assert "switched to a ring that there is not" in attack(ANSWER, frame(SWITCH, flags=0))


def test_a_payload_that_is_only_announced(attack):
    assert "nothing" in attack(ANSWER, frame(ITEM, b"x", 1, length=(1 << 31) - 1))
    assert "nothing" in attack(ANSWER, frame(ITEM, b"x" * 1000, 1, length=(1 << 31) - 1))


def test_a_payload_that_is_too_long(attack):
    assert "EOFError" in attack(ANSWER, frame(ITEM, b"x", 1, length=1 << 31))


def test_a_payload_that_ends_early(attack):
    assert "EOFError" in attack(ANSWER, frame(ITEM, b"x", 1, length=1 << 20), how="ends")


def test_items_that_claim_to_be_large(attack):
    """Of each the length is a lie; of the last, every part is."""
    for payload in (
        b"K\x7f\xff\xff\xff",  # a list of so many places
        b"A\x7f\xff\xff\xff",  # so many bytes
        b"N\x7f\xff\xff\xffQ",
        b"@\x7f\xff\xff\xffQ",
        b"K\x7f\xff\xff\xff" * 1000,
        b"H\x7f\xff\xff\xff9",
    ):
        assert "LoadError" in attack(ANSWER, frame(ITEM, payload, 1)), payload
    for payload in (b"\x8e" + b"\xff" * 8, b"\x8d" + b"\xff" * 7 + b"\x7fx.", b"\x8b\xff\xff\xff\x7f.", b"]" * 100_000):
        assert "LoadError" in attack(ANSWER, frame(ITEM, payload, 1, flags=0)), payload


def test_an_item_that_names_code(attack, tmp_path):
    """What `pickle` would execute when it is loaded."""
    import pickle

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    for protocol in range(2, 5):
        payload = pickle.dumps(Evil(), protocol=protocol)
        assert "LoadError" in attack(ANSWER, frame(ITEM, payload, 1, flags=0))
    assert not (tmp_path / "executed").exists()


def test_what_only_a_coordinator_sends(attack):
    for kind in (START, EXECUTE, STATUS, TERMINATE, EXTENSION):
        assert "EOFError" in attack(ANSWER, frame(kind, dumped({"source": "print(1)"}), 2)), kind


def test_more_than_is_allowed(attack):
    """Who limits what may wait for him was sent what a worker liked."""
    told = attack(ANSWER, frame(ITEM, dumped(1), 1) * 5, max_pending=5, receives=6)
    assert told == "1 | 1 | 1 | 1 | 1 | nothing"
    told = attack(ANSWER, frame(ITEM, dumped(1), 1) * 100, "on and on", max_pending=5, receives=1000)
    assert "it sent more on channel 1 than `max_pending` allows" in told


def test_pings_without_end(attack):
    """Each was answered, and the answers were kept for a worker that read none of them."""
    assert "reads no answer" in attack(ANSWER, frame(PING, bytes(64)) * 1000, "on and on")


def test_channels_without_end(attack):
    stream = b"".join(frame(OPEN, channel=2 * number) for number in range(1, 300_000))
    assert "channels" in attack(ANSWER, stream)


def test_closed_channels_without_end(attack):
    stream = b"".join(frame(ITEM, b"LQ", 2 * n).join([frame(OPEN, channel=2 * n), frame(CLOSE, channel=2 * n)]) for n in range(1, 300_000))
    assert "channels that nobody took" in attack(ANSWER, stream)


def test_hellos_without_end(attack):
    """One that asked for the extension module was sent it, each time."""
    assert "second HELLO" in attack(ANSWER, frame(HELLO, dumped(GOOD_HELLO)) * 100, "on and on")
    asking = frame(HELLO, dumped({**GOOD_HELLO, "asks_extension": True}))
    assert "second HELLO" in attack(MARKER, asking * 1000, "on and on")


def test_statuses_without_end(attack):
    """They were kept, though nobody had asked."""
    assert "nobody asked for" in attack(ANSWER, frame(STATUS_REPLY, dumped({})) * 1000, "on and on")


def test_frames_that_mean_nothing_without_end(attack):
    """They are allowed, and cost no memory."""
    assert "nothing" in attack(ANSWER, frame(0x81, bytes(100)) * 1000, "on and on")
    assert "nothing" in attack(ANSWER, frame(ITEM, b"LQ", 4711) * 1000, "on and on")
