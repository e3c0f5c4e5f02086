"""A small coordinator in pure Python, which speaks docs/PROTOCOL.md with a worker over pipes, frame by frame.

It is the reference that the zero-install worker is tested against: it knows nothing of the Rust implementation, keeps nothing
back and repairs nothing, so that a test sees exactly the frames a worker sends. It needs Python 3.
"""

import os
import pathlib
import pickle
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections import deque

WORKER = pathlib.Path(__file__).resolve().parents[2] / "python" / "farexec" / "worker.py"

STAGE0 = (
    r'exec("import os,zlib\ndef r(n,b=b\"\"):\n while len(b)<n:\n  c=os.read(0,n-len(b))\n  if not c:os._exit(0)\n  b+=c\n return b\n'
    r'exec(compile(zlib.decompress(r(int(r(8)))),\"<farexec worker>\",\"exec\"))",{"__name__":"farexec_worker"})'
)
MARKER = b"\x00\xfeFAREXEC\xfe\x00"

START, HELLO = 0x01, 0x02
EXECUTE, ITEM, OPEN, LAST, CLOSE, CLOSE_ERROR, RECONFIGURE = 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16
STATUS, STATUS_REPLY, PING, PONG = 0x20, 0x21, 0x22, 0x23
TERMINATE = 0x30
DUMP_FORMAT = 1

if hasattr(sys, "set_int_max_str_digits"):
    sys.set_int_max_str_digits(0)  # the encodings below are as simple as they can be

WAIT = 10.0  # seconds: longer than anything here takes on a busy machine


def stage1():
    """Returns what stage 0 reads: length and text of the worker, with the line that starts it."""
    packed = zlib.compress(WORKER.read_bytes() + b"\nmain()\n")
    return b"%08d" % len(packed) + packed


def compiled_stage1(python, other_magic=False):
    """Returns a stage 1 that brings the worker compiled by `python`, and its text for any other interpreter."""
    compile_it = (
        "import marshal, sys; out = getattr(sys.stdout, 'buffer', sys.stdout); external = sys.modules.get('_frozen_importlib_external')\n"
        "out.write((external.MAGIC_NUMBER if external else b'    ') + getattr(getattr(sys, 'implementation', None), 'name', '').encode() + b' ')\n"
        "out.write(marshal.dumps(compile(getattr(sys.stdin, 'buffer', sys.stdin).read(), '<farexec worker>', 'exec')))"
    )
    text = WORKER.read_bytes() + b"\nmain()\n"
    made = subprocess.run([python, "-c", compile_it], input=text, capture_output=True, check=True).stdout
    magic, (name, code) = made[:4], made[4:].split(b" ", 1)
    if other_magic:
        magic, code = b"none", b"not code"
    source = f"""
import marshal, sys
code, text = zlib.decompress(r(int(r(8)))), zlib.decompress(r(int(r(8))))
known = getattr(sys.modules.get("_frozen_importlib_external"), "MAGIC_NUMBER", None) == {magic!r} and sys.implementation.name == {name.decode()!r}
exec(marshal.loads(code) if known else compile(text, "<farexec worker>", "exec"))
"""
    return b"".join(b"%08d" % len(part) + part for part in (zlib.compress(part) for part in (source.encode(), code, text)))


class Channel:
    """A channel mentioned in an item."""

    def __init__(self, number):
        self.number = number

    def __eq__(self, other):
        return isinstance(other, Channel) and other.number == self.number

    def __hash__(self):
        return hash(self.number)

    def __repr__(self):
        return f"Channel({self.number})"


class Py2Str(bytes):
    """A `str` of Python 2 in the dump format."""


class WorkerEnded(Exception):
    """The worker's output ended."""


class Coordinator:
    """One worker, started as `command` says; frames are kept per channel until a test asks for them."""

    def __init__(self, command, start=None, prefix=b"", stage_1=None, connect=True, group=True, stdout=None, env=None, cwd=None):
        arguments = {"protocol": 1, "id": "gw0", "group": group}
        arguments.update(start or {})
        self.process = subprocess.Popen(
            [*command, "-c", STAGE0],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=False,
            preexec_fn=os.setpgrp if group else None,
            pass_fds=(stdout,) if stdout is not None else (),
            bufsize=0,
            env=env,
            cwd=cwd,
        )
        self.incoming = self.process.stdout.fileno()
        self.outgoing = self.process.stdin.fileno()
        self.stderr = b""
        self.frames = deque()
        self.arrived = threading.Condition()
        self.ended = False
        self.last_number = -1
        self.chatter = b""
        self.hello = None
        self.answer_pings = True
        self.writing = threading.Lock()
        self._threads = [threading.Thread(target=self._collect_stderr, daemon=True)]
        if stdout is not None:
            found = os.fstat(stdout)
            arguments["stdout"] = [stdout, found.st_dev, found.st_ino]
        if connect:
            self.write(prefix + (stage1() if stage_1 is None else stage_1) + pack_frame(START, 0, dump(arguments), DUMP_FORMAT))
            self._threads.append(threading.Thread(target=self._collect_frames, daemon=True))
        for thread in self._threads:
            thread.start()
        if connect:
            self.hello = self.expect(HELLO, 0)

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.kill()

    # Sending.

    def write(self, data):
        """Writes all of `data`, whatever it is."""
        with self.writing:
            view = memoryview(data)
            while view:
                view = view[os.write(self.outgoing, view) :]

    def send_frame(self, kind, number=0, payload=b"", flags=0):
        self.write(pack_frame(kind, number, payload, flags))

    def send(self, number, item, dumped=False):
        self.write(self.item_frame(number, item, dumped))

    def item_frame(self, number, item, dumped=False):
        if dumped or not self.hello["reads_message"]:
            return pack_frame(ITEM, number, dump(item), DUMP_FORMAT)
        return pack_frame(ITEM, number, dump_message(item))

    def new_number(self):
        self.last_number += 2
        return self.last_number

    def execute(self, source, number=None, **request):
        """Has `source` executed, and returns the number of its channel."""
        number = self.new_number() if number is None else number
        self.send_frame(EXECUTE, number, dump({"source": source, **request}), DUMP_FORMAT)
        return number

    def open(self):
        number = self.new_number()
        self.send_frame(OPEN, number)
        return number

    # Receiving.

    def next_frame(self, number=None, kinds=None, timeout=WAIT):
        """Returns the next frame, of any channel or kind or of those given, in order; raises when the worker ends."""
        deadline = time.monotonic() + timeout
        with self.arrived:
            while True:
                for frame in self.frames:
                    if (number is None or frame[1] == number) and (kinds is None or frame[0] in kinds):
                        self.frames.remove(frame)
                        return frame
                if self.ended:
                    raise WorkerEnded(self.stderr.decode(errors="replace"))
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"no frame for channel {number} of kinds {kinds}: there are {list(self.frames)[:5]}")
                self.arrived.wait(left)

    def expect(self, kind, number, timeout=WAIT):
        """Returns the decoded payload of the next frame on a channel, which has to be of the kind given."""
        found, _number, flags, payload = self.next_frame(number, timeout=timeout)
        content = decode(flags, payload) if found in (ITEM, CLOSE_ERROR, HELLO, STATUS_REPLY) else payload
        assert found == kind, f"frame {found:#x} instead of {kind:#x}: {content!r}"
        return content

    def receive(self, number, timeout=WAIT):
        return self.expect(ITEM, number, timeout)

    def evaluate(self, source, **request):
        """Returns all that an execution sends."""
        number = self.execute(source, **request)
        items = []
        while True:
            kind, _number, flags, payload = self.next_frame(number)
            if kind == CLOSE:
                return items
            assert kind == ITEM, (hex(kind), decode(flags, payload) if payload else b"")
            items.append(decode(flags, payload))

    def status(self):
        self.send_frame(STATUS)
        return self.expect(STATUS_REPLY, 0)

    # The end.

    def terminate(self, grace=None):
        payload = b"" if grace is None else dump({"grace": grace})
        self.send_frame(TERMINATE, 0, payload, DUMP_FORMAT)

    def cut_off(self):
        """Closes both pipes, as the system does when a coordinator dies."""
        self.process.stdin.close()

    def wait(self, timeout=WAIT):
        status = self.process.wait(timeout)
        for thread in self._threads:
            thread.join(WAIT)
        return status

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join(WAIT)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                stream.close()
            except OSError:
                pass

    def _collect_stderr(self):
        while True:
            data = self.process.stderr.read(65536)
            if not data:
                break
            self.stderr += data

    def _collect_frames(self):
        buffer = b""
        try:
            while MARKER not in buffer:
                data = os.read(self.incoming, 65536)
                if not data:
                    return
                buffer += data
            self.chatter, buffer = buffer.split(MARKER, 1)
            buffer = bytearray(buffer)
            while True:
                position = 0
                while len(buffer) - position >= 10:
                    kind, flags, number, size = struct.unpack_from("<BBII", buffer, position)
                    if len(buffer) < position + 10 + size:
                        break
                    payload = bytes(buffer[position + 10 : position + 10 + size])
                    position += 10 + size
                    if kind == PING and self.answer_pings:
                        self.send_frame(PONG, 0, payload)
                        continue
                    with self.arrived:
                        self.frames.append((kind, number, flags, payload))
                        self.arrived.notify_all()
                del buffer[:position]
                data = os.read(self.incoming, 1 << 20)
                if not data:
                    return
                buffer += data
        except (OSError, ValueError):
            pass
        finally:
            with self.arrived:
                self.ended = True
                self.arrived.notify_all()


def pack_frame(kind, number, payload=b"", flags=0):
    return struct.pack("<BBII", kind, flags, number, len(payload)) + payload


# The encodings, as simple as they can be written.


class _MessagePickler(pickle._Pickler):
    """The pure-Python pickler, so that nothing but the opcodes of the protocol comes out of it."""

    fast = True


def dump_message(item):
    import io

    out = io.BytesIO()
    pickler = _MessagePickler(out, 4)
    pickler.fast = True
    pickler.dump(item)
    return out.getvalue()


ALLOWED = frozenset(
    [
        "PROTO",
        "FRAME",
        "STOP",
        "MARK",
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "LONG4",
        "BINFLOAT",
        "SHORT_BINUNICODE",
        "BINUNICODE",
        "BINUNICODE8",
        "SHORT_BINBYTES",
        "BINBYTES",
        "BINBYTES8",
        "EMPTY_TUPLE",
        "TUPLE1",
        "TUPLE2",
        "TUPLE3",
        "TUPLE",
        "EMPTY_LIST",
        "APPEND",
        "APPENDS",
        "EMPTY_DICT",
        "SETITEM",
        "SETITEMS",
        "EMPTY_SET",
        "ADDITEMS",
        "FROZENSET",
        "MEMOIZE",
    ]
)


def decode(flags, payload):
    if flags & DUMP_FORMAT:
        return load(payload)
    if len(payload) < 100_000:
        import pickletools

        used = {opcode.name for opcode, _argument, _position in pickletools.genops(payload)}
        assert used <= ALLOWED, used - ALLOWED
    return pickle.loads(payload)


def dump(item):
    return _dump(item) + b"Q"


def _dump(item):
    kind = type(item)
    if item is None:
        return b"L"
    if kind is bool:
        return b"R" if item else b"C"
    if kind is int:
        if -(2**31) <= item < 2**31:
            return b"F" + struct.pack(">i", item)
        digits = str(item).encode()
        return b"H" + struct.pack(">i", len(digits)) + digits
    if kind is float:
        return b"D" + struct.pack(">d", item)
    if kind is complex:
        return b"T" + struct.pack(">dd", item.real, item.imag)
    if kind in (bytes, str, Py2Str):
        data = item.encode() if kind is str else item
        return {bytes: b"A", str: b"N", Py2Str: b"M"}[kind] + struct.pack(">i", len(data)) + data
    if kind is list:
        elements = [_dump(index) + _dump(element) + b"P" for index, element in enumerate(item)]
        return b"K" + struct.pack(">i", len(item)) + b"".join(elements)
    if kind is dict:
        return b"J" + b"".join(_dump(key) + _dump(value) + b"P" for key, value in item.items())
    if kind in (tuple, set, frozenset):
        opcode = {tuple: b"@", set: b"O", frozenset: b"E"}[kind]
        return b"".join(map(_dump, item)) + opcode + struct.pack(">i", len(item))
    if kind is Channel:
        return b"B" + struct.pack(">i", item.number)
    raise TypeError(kind)


def load(data):
    stack = []
    position = 0

    def number(layout):
        nonlocal position
        values = struct.unpack_from(layout, data, position)
        position += struct.calcsize(layout)
        return values[0] if len(values) == 1 else complex(*values)

    while True:
        opcode = data[position : position + 1]
        position += 1
        if opcode in (b"L", b"R", b"C"):
            stack.append({b"L": None, b"R": True, b"C": False}[opcode])
        elif opcode in (b"F", b"G"):
            stack.append(number(">i"))
        elif opcode == b"D":
            stack.append(number(">d"))
        elif opcode == b"T":
            stack.append(number(">dd"))
        elif opcode in (b"H", b"I", b"A", b"N", b"S", b"M"):
            size = number(">i")
            content = data[position : position + size]
            assert len(content) == size
            position += size
            stack.append(content.decode() if opcode in (b"N", b"S") else int(content) if opcode in (b"H", b"I") else content)
            if opcode == b"M":
                stack[-1] = Py2Str(stack[-1])
        elif opcode == b"K":
            stack.append([None] * number(">i"))
        elif opcode == b"J":
            stack.append({})
        elif opcode == b"P":
            value, key = stack.pop(), stack.pop()
            stack[-1][key] = value
        elif opcode in (b"@", b"O", b"E"):
            size = number(">i")
            elements = stack[len(stack) - size :]
            del stack[len(stack) - size :]
            stack.append({b"@": tuple, b"O": set, b"E": frozenset}[opcode](elements))
        elif opcode == b"B":
            stack.append(Channel(number(">i")))
        elif opcode == b"Q":
            assert len(stack) == 1
            assert position == len(data)
            return stack[0]
        else:
            raise ValueError(opcode)
