"""The zero-install worker: the far end of a gateway, in one file of standard library Python.

A coordinator sends this text to any CPython from 2.7 on, or PyPy 3, and has a worker that speaks docs/PROTOCOL.md. It is
compiled anew at every start, so it is kept short and imports little. Its neighbours are `crates/farexec-proto`, which speaks the
same protocol in Rust, and the coordinator's transports, which start it.

How it waits: there is one role, *reading*, and whoever waits for something takes it. A thread in `receive()` reads the
pipe itself and dispatches frames until its own item is there; an idle main thread reads, waiting for something to execute. One
background thread stands by and takes the role when nobody has read for some milliseconds, so that an end, a ping or a
status request is noticed while user code computes.
"""

import atexit
import errno
import gc
import os
import sys
import time  # a clock, and sleep: built in
from itertools import count  # channel numbers: built in
from _collections import deque  # queues; `collections` would take a millisecond, this is built in
from _weakref import ref  # finds the live handle of a channel; `weakref` takes a while, this is built in
from _struct import Struct, error as StructError, pack, unpack_from  # frame headers and the dump format

try:
    import _thread as thread  # locks and threads; `threading` takes two milliseconds, and only user code needs it
except ImportError:  # Python 2
    import thread

try:
    import _signal as signal  # interrupting the main thread; `signal` imports enum
except ImportError:  # Python 2, PyPy
    import signal

# User code may put its own in their place, as gevent and eventlet do; the worker goes on with these.
allocate_lock, start_new_thread, get_ident, sleep = thread.allocate_lock, thread.start_new_thread, thread.get_ident, time.sleep

PROTOCOL_VERSION = 1
WORKER_INTERFACE = (PROTOCOL_VERSION, 2)  # between this file and the extension module: changes with every change to it
MARKER = b"\x00\xfeFAREXEC\xfe\x00"
PAYLOAD_LIMIT = 2**31 - 1  # bytes in one frame
NESTING_LIMIT = 900  # containers in containers, in the dump format; Python's own limit is a little above, and not always survived

START, HELLO = 0x01, 0x02
EXECUTE, ITEM, OPEN, LAST, CLOSE, CLOSE_ERROR, RECONFIGURE = 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16
STATUS, STATUS_REPLY, PING, PONG = 0x20, 0x21, 0x22, 0x23
TERMINATE = 0x30
CREDIT = 0x80
DUMP_FORMAT = 1  # the flag of a payload in the dump format

PATIENCE = 1.0  # seconds that an execution waits for the main thread, if it may run nowhere else
STANDBY = 0.005  # seconds without a reader after which the background thread reads
GRACE, GRACE_CUT_OFF = 5.0, 0.5  # seconds until running executions are interrupted
LAST_GRACE, LAST_GRACE_CUT_OFF = 10.0, 1.0  # further seconds until the process exits regardless
READ_SIZE = 1 << 16  # bytes asked for at once: what a pipe holds unless told otherwise
LARGE_READ = (1 << 20) + READ_SIZE  # bytes taken in advance, and asked for at once, for a payload larger than a read
JOIN_LIMIT = 1 << 16  # payloads up to this are copied behind their header, larger ones are written from where they are
HIGH_DESCRIPTOR = 200  # where the protocol's descriptors go, out of the way of user code
HEADER = Struct("<BBII")  # kind, flags, channel, length
LENGTH, LENGTH_FIELD = Struct("<I").unpack_from, Struct("<I").pack
INT_FRAME = Struct("<11siB").pack  # an ITEM with a small int in the message encoding, whole: `Stream.int_opening`, the int, 0x2E
PY2 = sys.version_info[0] == 2
PYPY = "__pypy__" in sys.builtin_module_names
READS_MESSAGE = sys.version_info >= (3, 4)
WRITES_MESSAGE = sys.version_info >= (3, 8) and not PYPY  # from 3.8 on the C pickler can be told to refuse

PRELOADED = []  # names of modules

clock = getattr(time, "monotonic", time.time)
text_type = type(u"")


def main(incoming=None, outgoing=None, problem=None):
    """Runs a worker until its gateway ends: on the standard descriptors, or on those that a template has set up."""
    forked = incoming is not None
    if not forked:
        incoming, outgoing = take_descriptors()
    header = read_exactly(incoming, 10)
    if header is None:
        return
    kind, _flags, _channel, length = HEADER.unpack(header)
    if kind != START:
        sys.stderr.write("farexec worker: the first frame is of kind %#x, not START\n" % kind)
        sys.exit(1)
    payload = read_exactly(incoming, length)
    if payload is None:
        return
    try:
        start = load_start(payload)
        start.get("protocol")
    except (LoadError, AttributeError) as error:
        sys.stderr.write("farexec worker: its START cannot be read: %s\n" % error)
        sys.exit(1)
    if not forked or not SET_UP_BY.isdisjoint(start):
        problem = problem or apply_start(start)
    if start.get("push") and may_be_native(start) and find_extension() is None:
        if not receive_extension(incoming, outgoing):
            return
    make, model_problem = gateway_class(start)
    problem = problem or model_problem
    gateway = make(incoming, outgoing, start)
    gateway.say_hello(problem)
    if problem:
        sys.exit(1)
    if hasattr(gc, "freeze"):
        gc.freeze()
    forget_in_children(gateway._forget)
    modules = len(sys.modules)
    gateway.serve()
    if len(sys.modules) == modules:
        end_early()


def end_early():
    """Ends the process without taking the interpreter apart, which takes longer than the rest of the end, if nobody could tell.

    Only where no module was imported, since what it or a library does at the end is not to be known; where no object was made that
    does something when it goes; and where no thread of the `threading` module may be waited for.
    """
    if not hasattr(gc, "freeze") or PRELOADED or "threading" in sys.modules or "LD_PRELOAD" in os.environ:
        return
    for item in gc.get_objects():
        if hasattr(item if isinstance(item, type) else type(item), "__del__") and type(item) not in CHANNELS:
            return
        if isinstance(item, ref) and item.__callback__ is not None:
            return
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass
    os._exit(0)


def gateway_class(start):
    """Returns what makes the gateway of the execution model that START asks for, and what is wrong with that, if anything is."""
    model = native(start.get("execmodel") or "thread")
    if start.get("threads") == u"none":
        return Unthreaded, "threads=none does not go with the execution model %s" % model if start.get("extension") else None
    if not start.get("extension"):
        extension = find_extension() if may_be_native(start) else None
        if extension is None:
            return Gateway, None
        return lambda incoming, outgoing, start: NativeGateway(extension, incoming, outgoing, start), None
    try:
        exec(compile(native(start["extension"]), "<farexec %s>" % model, "exec"), globals())
        return green_gateway(model), None  # noqa: F821  the extension defines it
    except ImportError:
        return Gateway, "the execution model %s needs the package %s: %s" % (model, model, sys.exc_info()[1])


def may_be_native(start):
    return bool(start.get("native")) and not start.get("extension") and start.get("threads") != u"none"


def receive_extension(incoming, outgoing):
    """Asks the coordinator for the extension module, and loads what comes, if anything does; returns whether the coordinator is there."""
    if PY2 or PYPY or sys.version_info < (3, 10) or "t" in sys.abiflags or not hasattr(os, "memfd_create"):
        return True
    global greeting
    hello = hello_with({"asks_extension": True, "machine": text(os.uname().machine)})
    data = greeting + frame(HELLO, 0, hello, DUMP_FORMAT)
    greeting = b""  # what follows is another HELLO, and no beginning
    while data:
        data = data[write(outgoing, data) :]
    header = read_exactly(incoming, 10)
    payload = header and read_exactly(incoming, HEADER.unpack(header)[3])
    if payload is None:
        return False
    if payload:
        load_extension(payload)
    return True


def load_extension(payload):
    """Loads the extension module from memory: no file is left behind, and none is needed."""
    from zlib import decompress

    descriptor = os.memfd_create("farexec", os.MFD_CLOEXEC)
    try:
        data = memoryview(decompress(payload))
        while data:
            data = data[write(descriptor, data) :]
        path = "/proc/self/fd/%d" % descriptor
        import_extension(sys.modules["_frozen_importlib_external"].ExtensionFileLoader(EXTENSION, path), path)
    except Exception:  # it does not fit after all, or may not be executed from memory: it goes without
        pass
    finally:
        os.close(descriptor)
ABOUT = []  # what about_interpreter() has made


def about_interpreter():
    """Returns what HELLO says that is the same for all workers of an interpreter, as a dict in the dump format."""
    if not ABOUT:
        implementation = sys.implementation.name if hasattr(sys, "implementation") else "cpython"
        about = {
            "protocol": PROTOCOL_VERSION,
            "implementation": text(implementation),
            "version": list(sys.version_info[:3]),
            "executable": text(sys.executable or ""),
            "platform": text(sys.platform),
            "reads_message": READS_MESSAGE,
            "knows_credit": True,
        }
        ABOUT.append(dump(about, b"S"))
    return ABOUT[0]


def hello_with(own):
    """Returns the payload of a HELLO: what it says of the interpreter, of this process, and what else is given."""
    try:
        directory = os.getcwd()
    except OSError:
        directory = ""
    own.update(cwd=text(directory), pid=os.getpid())
    # A dict is its pairs, between an opcode before them and one behind.
    return about_interpreter()[:-1] + dump_own(own)[1:]


def take_descriptors():
    """Moves the protocol to descriptors that no child inherits, and leaves /dev/null as standard input."""
    incoming, outgoing = move_high(0), move_high(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # there is no standard error
        os.dup2(null, 1)
    if null > 2:
        os.close(null)
    return incoming, outgoing


def move_high(descriptor):
    """Moves a descriptor out of the way of user code, to one that no child inherits."""
    if PY2:
        import fcntl  # the only way there, and a library to load everywhere

        try:
            high = fcntl.fcntl(descriptor, fcntl.F_DUPFD, HIGH_DESCRIPTOR)
        except (IOError, OSError):  # the process may not have that many
            high = os.dup(descriptor)
        fcntl.fcntl(high, fcntl.F_SETFD, fcntl.fcntl(high, fcntl.F_GETFD) | fcntl.FD_CLOEXEC)
        return high
    number = free_number()
    try:
        os.dup2(descriptor, number, False)
    except OSError:  # the process may not have that many
        return os.dup(descriptor)
    return number


def free_number():
    """Returns the first number, high enough, that no descriptor has."""
    for number in count(HIGH_DESCRIPTOR):
        try:
            os.fstat(number)
        except OSError:
            return number


def read_exactly(descriptor, size):
    data = b""
    while len(data) < size:
        chunk = read(descriptor, size - len(data))
        if not chunk:
            return None
        data += chunk
    return data


SET_UP_BY = frozenset((u"env", u"dont_write_bytecode", u"nice", u"stdout", u"stdout_null", u"chdir", u"preload"))


def apply_start(start):
    """Does what START asks for; returns what went wrong, if anything did."""
    try:
        for name, value in (start.get("env") or {}).items():
            os.environ[native(name)] = native(value)
        if start.get("dont_write_bytecode"):
            sys.dont_write_bytecode = True
        if start.get("nice"):
            os.nice(start["nice"])
        open_stdout(start.get("stdout"), start.get("stdout_null"))
        directory = start.get("chdir")
        if directory:
            directory = native(directory)
            if not os.path.isdir(directory):
                os.makedirs(directory)
            os.chdir(directory)
    except Exception:
        return "%s: %s" % (sys.exc_info()[0].__name__, sys.exc_info()[1])
    return preload(start.get("preload") or ())


def preload(modules):
    """Imports modules before anything is executed; returns what went wrong, if anything did."""
    for name in modules:
        PRELOADED.append(name)
        try:
            __import__(native(name))
        except BaseException:
            return "cannot preload %s: %s: %s" % (native(name), sys.exc_info()[0].__name__, sys.exc_info()[1])


def open_stdout(wanted, null):
    """Puts the file START names in the place of descriptor 1, and has both outputs write whole lines."""
    if null:
        os.dup2(0, 1)
    elif wanted:
        descriptor, device, inode = wanted
        try:
            found = os.fstat(descriptor)
        except OSError:
            found = None
        if found and (found.st_dev, found.st_ino) == (device, inode) and descriptor != 1:
            os.dup2(descriptor, 1)
            if descriptor > 2:
                os.close(descriptor)
    if PY2:
        sys.stdout = sys.__stdout__ = os.fdopen(1, "w", 1)
    else:
        sys.stdout = sys.__stdout__ = line_buffered(sys.stdout)
        sys.stderr = sys.__stderr__ = line_buffered(sys.stderr)


def line_buffered(stream):
    """Returns a text stream that writes whole lines; before Python 3.9 not even standard error does."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(line_buffering=True)
    elif stream is not None:  # Python 3.6
        import io

        encoding, errors = stream.encoding, stream.errors
        stream = io.TextIOWrapper(stream.detach(), encoding, errors, line_buffering=True)
    return stream


class DataFormatError(Exception):
    """An object or some bytes do not fit the encodings."""


class DumpError(DataFormatError):
    """An object cannot be sent."""


class LoadError(DataFormatError):
    """Bytes that are no encoded object."""


class RemoteError(Exception):
    """What went wrong at the other end; its text is what the other end wrote about it."""

    def __init__(self, formatted, type_name="", message="", frames=(), notes=(), cause=None):
        Exception.__init__(self, formatted)
        self.formatted = formatted
        self.type_name = type_name
        self.message = message
        self.frames = frames
        self.notes = notes
        self.cause = cause

    def __str__(self):
        return self.formatted

    def __repr__(self):
        return "RemoteError: %s" % self.formatted


def remote_error(report):
    """Returns the error that a CLOSE_ERROR tells of."""
    text, kind, message = [native(report.get(key) or "") for key in ("text", "type", "message")]
    cause = remote_error(report["cause"]) if report.get("cause") else None
    return RemoteError(text, kind, message, report.get("frames") or (), report.get("notes") or (), cause)


try:
    class TimeoutError(TimeoutError):
        """Nothing came in time."""
except NameError:  # Python 2
    class TimeoutError(IOError):
        """Nothing came in time."""

for _error in (DataFormatError, DumpError, LoadError, RemoteError, TimeoutError):
    _error.__module__ = "farexec"  # where a reader of a traceback can look it up


greeting = MARKER  # what stands before the first HELLO


NO_ENDMARKER = object()


class Channel(object):
    """A two-way stream of items; the handle that user code holds. Dropping the last reference ends the channel."""

    RemoteError = RemoteError
    TimeoutError = TimeoutError
    _executing = False  # whether this is the channel of a running execution

    def __init__(self, gateway, stream):
        self.gateway = gateway
        self.id = stream.id
        self._stream = stream
        stream.handle = ref(self)

    def __repr__(self):
        return "<Channel id=%d %s>" % (self.id, "closed" if self.isclosed() else "open")

    def send(self, item, timeout=None):
        """Sends one item. It is on its way when this returns.

        `timeout`: how many seconds it may wait for the other end to take items, where that is to be waited for at all.
        """
        stream, gateway = self._stream, self.gateway
        if not stream.sending:
            raise OSError("cannot send to %r" % self)
        data = None
        if type(item) is int and WRITES_MESSAGE:
            try:
                data = INT_FRAME(stream.int_opening, item, 0x2E)
            except StructError:  # it is large
                pass
        if data is None:
            flags, parts = encode(item, stream.config, gateway)
            size = sum(map(len, parts))
            if size > PAYLOAD_LIMIT:
                raise DumpError("an item of %d bytes is too large to be sent" % size)
            header = HEADER.pack(ITEM, flags, stream.id, size)
            if size > JOIN_LIMIT:
                gateway._send_parts((header + parts[0],) + tuple(parts[1:]))
                return
            data = header + b"".join(parts)
        # This is here, and no method of the gateway's, because a call would be much of what a small item costs.
        with gateway._writing:
            if gateway._deferred:
                gateway._write_deferred()
            try:
                sent = write(gateway._outgoing, data)
            except (IOError, OSError):
                gateway._write_failed()
                raise
            if sent != len(data):
                gateway._write(unsent((data,), sent))
        if gateway._deferred:
            gateway._flush()

    def receive(self, timeout=None):
        """Returns the next item; waits for it, at most `timeout` seconds."""
        stream = self._stream
        if stream.callback is not None:
            raise OSError("cannot receive(): the items of this channel go to a callback")
        items = stream.items
        if not items:
            gateway = self.gateway
            if timeout is None and stream.receiving and gateway._reading.acquire(False):
                payload = gateway._read_one_for(stream)
                if payload is not None:
                    return decode(payload, stream.config, gateway)
            if not gateway._wait(stream.has_news, stream, timeout):
                raise TimeoutError("no item after %s seconds" % timeout)
        try:
            payload = items.popleft()
        except IndexError:
            error = self._getremoteerror()
            raise EOFError() if error is None else error
        return decode(payload, stream.config, self.gateway)

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return self.receive()
        except EOFError:
            raise StopIteration

    next = __next__

    def setcallback(self, callback, endmarker=NO_ENDMARKER):
        """Has `callback` called with each item, in a thread of its own; and once with `endmarker` when there are no more."""
        stream = self._stream
        if stream.callback is not None:
            raise OSError("%r has callback already registered" % self)
        stream.endmarker = endmarker
        stream.callback = callback
        self.gateway._schedule_callback(stream)

    def makefile(self, mode="w", proxyclose=False):
        """Returns a file-like object; with `proxyclose`, closing it closes the channel."""
        if mode == "w":
            return ChannelFileWrite(self, proxyclose)
        if mode == "r":
            return ChannelFileRead(self, proxyclose)
        raise ValueError("mode %r not available" % (mode,))

    def close(self, error=None):
        """Ends the channel; with `error`, a text, the other end sees a RemoteError."""
        if self._executing:
            raise OSError("cannot explicitly close channel within remote_exec")
        self.gateway._close(self._stream, None if error is None else {"text": text(error)})

    def waitclose(self, timeout=None):
        """Waits until the other end sends no more, and all callbacks have run; raises what error it ended with."""
        if not self.gateway._wait_end(self._stream, timeout):
            raise TimeoutError("the channel is not closed after %s seconds" % timeout)
        error = self._getremoteerror()
        if error is not None:
            raise error

    def isclosed(self):
        return not (self._stream.sending or self._stream.receiving)

    def reconfigure(self, py2str_as_py3str=True, py3str_as_py2str=False):
        """Says, for both ends, how strings of the other major version of Python are read."""
        stream = self._stream
        stream.config = (bool(py2str_as_py3str), bool(py3str_as_py2str))
        self.gateway._post(frame(RECONFIGURE, stream.id, bytes(bytearray(stream.config))))

    def _getremoteerror(self):
        error, self._stream.error = self._stream.error, None
        return error

    def __del__(self):
        try:
            self.gateway._drop(self._stream)
        except Exception:  # the interpreter is being taken apart, or __init__ did not finish
            pass


class LimitedChannel(Channel):
    """A channel on which neither end is more than a number of items ahead of what the other has taken."""

    def send(self, item, timeout=None):
        stream = self._stream
        deadline = None if timeout is None else clock() + timeout
        while not stream.take_credit():  # another thread may be quicker
            if not self.gateway._wait(stream.has_credit, stream, None if deadline is None else deadline - clock()):
                raise TimeoutError("the other end took no item within %s seconds" % timeout)
        try:
            Channel.send(self, item)
        except DumpError:  # it was not sent
            stream.add_credit(1)
            raise

    def receive(self, timeout=None):
        try:
            item = Channel.receive(self, timeout)
        except LoadError:  # it was taken all the same
            self.gateway._took(self._stream)
            raise
        self.gateway._took(self._stream)
        return item


CHANNELS = set([Channel, LimitedChannel])  # and the kinds that use codecs, if there are any


class ChannelFile(object):
    """What both kinds of file over a channel share."""

    def __init__(self, channel, proxyclose=False):
        self.channel = channel
        self._proxyclose = proxyclose

    def isatty(self):
        return False

    def close(self):
        if self._proxyclose:
            self.channel.close()

    def __repr__(self):
        return "<ChannelFile %d %s>" % (self.channel.id, "closed" if self.channel.isclosed() else "open")


class ChannelFileWrite(ChannelFile):
    def write(self, data):
        self.channel.send(data)

    def writelines(self, lines):
        for line in lines:
            self.channel.send(line)

    def flush(self):
        pass


class ChannelFileRead(ChannelFile):
    _buffer = None  # takes the type of what arrives

    def _fill(self):
        try:
            data = self.channel.receive()
        except EOFError:
            return False
        self._buffer = data if self._buffer is None else self._buffer + data
        return True

    def _take(self, size):
        if self._buffer is None:
            return ""
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def read(self, size):
        while (self._buffer is None or len(self._buffer) < size) and self._fill():
            pass
        return self._take(size)

    def readline(self):
        searched = 0
        while True:
            if self._buffer is not None:
                end = self._buffer.find(b"\n" if isinstance(self._buffer, bytes) else "\n", searched) + 1
                if end:
                    return self._take(end)
                searched = len(self._buffer)
            if not self._fill():
                return self._take(searched)

    def __iter__(self):
        return iter(self.readline, self._buffer[:0] if self._buffer is not None else "")


class Stream(object):
    """The state of one channel. It outlives its handle as long as a callback may be called."""

    callback = None
    endmarker = NO_ENDMARKER
    callback_ended = False  # whether the last call was made
    scheduled = False  # whether the callback thread has it on its list
    codec = None  # what items go through before they are encoded, and after they were decoded
    handle = None  # a weak reference to the Channel; None before there was one
    error = None  # the RemoteError it ended with, until somebody is told
    window = None  # how many items each end may be ahead of what the other has taken, if that is limited

    def __init__(self, number, config):
        self.id = number
        self.config = config
        int_header = HEADER.pack(ITEM, 0, number, 6)
        self.item_header = int_header[:6]
        self.int_opening = int_header + b"J"
        self.items = deque()  # payloads; those in the dump format as tuples of one
        self.bells = []  # of threads that wait for news here
        self.sending = self.receiving = True

    def has_news(self):
        return self.items or not self.receiving

    def has_ended(self):
        return not self.receiving

    def ring(self):
        for bell in list(self.bells):
            bell.ring()

    def limit(self, window):
        self.window = self.credit = window
        self.taken = 0  # items since the other end was told
        self.counting = allocate_lock()

    def has_credit(self):
        return self.credit > 0 or not self.sending

    def take_credit(self):
        """Returns whether an item may be sent, or nothing can be any more."""
        with self.counting:
            if self.credit > 0:
                self.credit -= 1
                return True
        return not self.sending

    def add_credit(self, items):
        with self.counting:
            self.credit += items
        self.ring()

    def took(self):
        """An item was taken. Returns how many the other end is to be told of, which it is not of each."""
        with self.counting:
            self.taken += 1
            if self.taken * 2 < self.window:
                return 0
            taken, self.taken = self.taken, 0
            return taken


class Doorbell(object):
    """Wakes the one thread that waits at it. Rung twice is rung once; rung before the wait, the wait is short."""

    def __init__(self):
        self._lock = allocate_lock()
        self._lock.acquire()

    def ring(self):
        try:
            self._lock.release()
        except thread.error:  # rung already
            pass

    def wait(self, timeout=None):
        if timeout is None:
            self._lock.acquire()
        elif not PY2:
            self._lock.acquire(True, max(0, min(timeout, 1e6)))
        else:  # Python 2 cannot wait for a lock with a time limit
            deadline, pause = clock() + timeout, 0.0005
            while not self._lock.acquire(False):
                pause = min(pause * 2, 0.02, deadline - clock())
                if pause <= 0:
                    return
                sleep(pause)


class WorkerGateway(object):
    """The worker's end of the connection: who executes, and what happens at the end. Its kinds are connections."""

    def __init__(self, start):
        self.id = native(start.get("id") or "worker") + "-worker"
        self.execmodel = ExecModel(native(start.get("execmodel") or "thread"))
        self._main_thread = get_ident()
        self._group = bool(start.get("group")) and os.getpgrp() == os.getpid()
        self._pid = os.getpid()
        if self._group:
            atexit.register(self._kill_group)  # registered first, so it runs last
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored, as in the background of a shell
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def __repr__(self):
        return "<WorkerGateway id=%r>" % self.id

    def say_hello(self, problem):
        own = {"worker": text(self.kind), "error": text(problem) if problem else None}
        if "compiled" in globals():  # stage 1 may have left it, for the next worker to start quicker
            own["compiled"] = globals().pop("compiled")
        self._answer(greeting, hello_with(own))

    def serve(self):
        """Executes in the main thread what arrives for it, until the gateway has ended and all executions with it."""
        idle = False
        while True:
            try:
                task = self._next_task()
                if task is None:
                    break
                self._execute(task, True)
            except KeyboardInterrupt:  # a Ctrl-C at a terminal is the coordinator's
                pass
            except Exception:  # a signal handler that user code left behind
                sys.stderr.write("farexec worker: %s outside of any execution\n" % sys.exc_info()[0].__name__)
            task = None  # the channel of what was executed is not to be kept
        while not idle:
            try:
                self._wait_idle()
                idle = True
            except KeyboardInterrupt:
                pass
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        except KeyboardInterrupt:
            pass

    def _execute(self, task, in_main):
        channel, request = task
        error = None
        channel._executing = True
        try:
            if not in_main:
                import_threading(self._main_thread)
            run(channel, request)
        except BaseException:
            if not channel.isclosed():
                error = describe_exception(sys.exc_info(), request)
        finally:
            channel._executing = False
            # This worker counts as free before the other end learns of the end, so that it gets what comes next.
            self._has_executed(channel, in_main)
            self._close_channel(channel, error)

    def compile(self, request):
        """Returns the code of what an EXECUTE frame asks for."""
        return code_of(request)

    def describe(self, request):
        """Returns what CLOSE_ERROR says about the present exception, which came of such a request."""
        return describe_exception(sys.exc_info(), request, sys._getframe(1).f_code.co_filename)

    def _kill_group(self):
        if self._group and self._cut_off and os.getpid() == self._pid == os.getpgrp():
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except Exception:
                    pass
            os.killpg(self._pid, signal.SIGKILL)


class Gateway(WorkerGateway):
    """The connection in Python alone: who reads, who writes, what becomes of what arrives."""

    kind = "pure"
    codec = None  # that of channels which are made from now on
    coded = None  # makes a kind of channel that uses a codec, once there is one
    early_credit = (0, 0)  # the number of the channel that is opened next, and its limit, if it has one

    def __init__(self, incoming, outgoing, start):
        self._incoming = incoming
        self._outgoing = outgoing
        self._streams = {}
        self._numbers = count(2, 2)  # this end's channels
        self._config = (True, False)  # py2str_as_py3str, py3str_as_py2str

        self._reading = allocate_lock()  # held by whoever reads
        self._rest = b""  # the beginning of a frame whose end has not been read
        self._large = None  # a large payload on its way in
        self._spare = None  # the memory of the last one
        self._waiters = []  # doorbells of threads that wait while another one reads
        self._reader_of = None  # the stream the present, or last, reader reads for
        self._recent = False  # whether somebody has read since the background thread last looked
        self._standby_bell = None  # there is no background thread before the first execution
        self._standby_parked = False

        self._writing = allocate_lock()
        self._deferred = deque()  # frames for whoever writes next; what `_post` could not write at once

        self._starting = allocate_lock()  # of background threads: each is started once
        self._callback_list = deque()  # streams with something to call back
        self._callback_bell = None
        self._callback_strand = None

        self._task = None  # what the main thread is to execute next
        self._patient = deque()  # tasks that wait for the main thread, but not for long
        self._handing = allocate_lock()  # of tasks to the main thread
        self._main_busy = False  # whether the main thread has something to execute
        self._main = Stream(0, self._config)  # where the main thread waits for a task
        self._running = {}  # tasks by identity

        self._ended = False
        self._cut_off = False  # whether the coordinator is gone
        self._grace = GRACE
        WorkerGateway.__init__(self, start)

    def newchannel(self):
        """Opens a channel of this end's own. The other end learns of it when it is sent there."""
        number = next(self._numbers)
        stream = Stream(number, self._config)
        channel = self._handle_of(stream, self.codec)
        if self._ended:
            stream.sending = stream.receiving = False
        else:
            self._streams[number] = stream
            self._post(frame(OPEN, number))
        return channel

    def _answer(self, greeting, hello):
        self._post(greeting + frame(HELLO, 0, hello, DUMP_FORMAT))

    # Executions: who runs them.

    def _next_task(self):
        self._wait(self._has_task, self._main, None)
        task, self._task = self._task, None
        if task is not None and self._cut_off:  # nobody is left to want it
            self._running.clear()
            return None
        return task

    def _has_task(self):
        return self._task is not None or self._ended

    def _wait_idle(self):
        while self._running:
            self._main.bells[:] = [Doorbell()]
            if self._running:
                self._main.bells[0].wait()

    def _begin(self, flags, number, payload):
        """EXECUTE: hands it to the main thread if that is idle, else to a new one."""
        stream = self._open(number)
        channel = self._plain_handle_of(stream)
        try:
            request = decode((payload,) if flags & DUMP_FORMAT else payload, (True, False), self)
        except LoadError:
            self._close(stream, {"text": text("cannot read what to execute: %s" % sys.exc_info()[1])})
            return
        beside = request.get("beside")
        if beside:  # those are parts of farexec itself, to which items are what they are
            stream.config = (True, False)
        elif not request.get("part"):
            self._give_codec(channel, self.codec)
        task = (channel, request)
        try:
            self._ready_standby()
            if not beside and self._hand_to_main(task):
                self._main.ring()
                return
            self._running[number] = False
            self._run_beside(task)
        except thread.error:
            self._running.pop(number, None)
            self._refuse(task, "cannot start another thread")

    def _ready_standby(self):
        if self._standby_bell is None:
            self._standby_bell = Doorbell()
            try:
                start_thread(self._stand_by)
            except thread.error:
                self._standby_bell = None
                raise

    def _hand_to_main(self, task):
        """Gives a task to the main thread, now or when it is free; returns whether that is whose it is."""
        with self._handing:
            if not self._main_busy:
                self._main_busy = True
                self._running[task[0].id] = True
                self._task = task
                return True
            if self.execmodel.backend != "main_thread_only":
                return False
            start_thread(lambda: self._lose_patience(task))
            self._patient.append(task)
        return True

    def _next_for_main(self):
        """The main thread has nothing to execute any more: it gets what waits for it, if anything does."""
        with self._handing:
            if self._patient and not self._ended:
                self._task = self._patient.popleft()
                self._running[self._task[0].id] = True
            else:
                self._main_busy = False

    def _lose_patience(self, task):
        """What was executed before may be about to end, if its channel was closed; if it waits for this task, it would do so for ever."""
        sleep(PATIENCE)
        try:
            self._patient.remove(task)
        except ValueError:
            return
        self._refuse(
            task, "an execution is running, and a worker of the main_thread_only model runs one at a time: waiting would be a deadlock"
        )

    def _refuse(self, task, why):
        self._close(task[0]._stream, {"text": text(why)})

    def _run_beside(self, task):
        start_new_thread(self._execute, (task, False))

    def _has_executed(self, channel, in_main):
        self._running.pop(channel.id, None)
        if in_main:
            self._next_for_main()

    def _close_channel(self, channel, error):
        self._close(channel._stream, error)
        if self._ended:
            self._main.ring()

    # Reading: whoever waits.

    def _wait(self, ready, stream, timeout):
        """Waits until `ready()`, reading if nobody else does; returns whether it was in time."""
        deadline = None if timeout is None else clock() + timeout
        bell, left = None, timeout
        try:
            while not ready():
                if self._reading.acquire(False):
                    self._recent = True
                    try:
                        self._reader_of = stream
                        while not ready():
                            if deadline is not None and not self._readable(deadline - clock()):
                                return False
                            self._read_some()
                    finally:
                        self._stop_reading()
                    continue
                if left is not None and left <= 0:
                    return False
                if bell is None:
                    bell = Doorbell()
                    self._waiters.append(bell)
                    stream.bells.append(bell)
                    continue  # somebody may have stopped reading in between
                bell.wait(left)
                if deadline is not None:
                    left = deadline - clock()
            return True
        finally:
            if bell is not None:
                self._waiters.remove(bell)
                stream.bells.remove(bell)
                if not self._reading.locked():  # it may have been this thread's turn to read
                    self._ring_next()

    def _wait_end(self, stream, timeout):
        """Waits until nothing more comes on `stream`, and its callbacks have run."""
        deadline = None if timeout is None else clock() + timeout
        if not self._wait(stream.has_ended, stream, timeout):
            return False
        if stream.callback is None or self._strand() == self._callback_strand:
            return True
        bell = self._new_bell()
        stream.bells.append(bell)
        try:
            while not stream.callback_ended:
                left = None if deadline is None else deadline - clock()
                if left is not None and left <= 0:
                    return False
                bell.wait(left)
            return True
        finally:
            stream.bells.remove(bell)

    def _new_bell(self):
        return Doorbell()

    def _strand(self):
        """Returns what tells the present strand of execution from others."""
        return get_ident()

    def _read_one_for(self, stream):
        """With the role of the reader, and waiting for one item: reads once, and returns its payload if it is just that."""
        try:
            self._recent = True
            self._reader_of = stream
            if not stream.items and stream.receiving and not self._rest and self._large is None:
                data = self._read()
                if data[:6] == stream.item_header and len(data) > 10 and LENGTH(data, 6)[0] == len(data) - 10:
                    return data[10:]
                self._feed(data)
        finally:
            self._reading.release()
            if self._waiters or self._standby_parked:
                self._ring_next()

    def _stop_reading(self):
        self._reading.release()
        self._ring_next()

    def _ring_next(self):
        if self._waiters:
            try:
                self._waiters[0].ring()
            except IndexError:
                pass
        if self._standby_parked:
            self._standby_bell.ring()

    def _stand_by(self):
        """The background thread: reads when nobody else does, and after the end sees to it that the process ends."""
        while not self._ended:
            if not self._recent and self._reading.locked():
                self._standby_parked = True
                if self._reading.locked() and not self._ended:
                    self._standby_bell.wait()
                self._standby_parked = False
            self._recent = False
            sleep(STANDBY)
            if self._recent or not self._reading.acquire(False):
                continue
            try:
                while not self._waiters and not self._ended:
                    self._read_some()
            finally:
                self._stop_reading()
        self._watch_end()

    def _readable(self, timeout):
        import select  # rare: only a wait with a time limit needs it

        poll = select.poll()
        poll.register(self._incoming, select.POLLIN)
        try:
            return poll.poll(max(0, min(timeout, 1e6)) * 1000)
        except select.error:  # Python 2: interrupted by a signal
            if sys.exc_info()[1].args[0] != errno.EINTR:
                raise
            return []

    def _read_some(self):
        """Reads once, and dispatches the frames that are complete with it. Only with the role of the reader."""
        if self._large is not None:
            self._read_large()
        elif not self._ended:
            self._feed(self._read())

    def _read(self):
        try:
            return read(self._incoming, READ_SIZE)
        except (IOError, OSError):
            if sys.exc_info()[1].errno is None:  # raised by a signal handler of user code
                raise
            return b""

    def _feed(self, data):
        if not data:
            self._end(True)
            return
        if self._rest:
            data = self._rest + data
            self._rest = b""
        position, size = 0, len(data)
        header, streams = HEADER.unpack_from, self._streams
        try:
            while size - position >= 10:
                kind, flags, number, length = header(data, position)
                begin = position + 10
                end = begin + length
                if end > size:
                    if length > PAYLOAD_LIMIT:
                        raise ProtocolError("a payload of %d bytes" % length)
                    if length > READ_SIZE:
                        self._large = LargePayload(kind, flags, number, length, data[begin:], self._spare)
                        self._spare = None
                        position = size
                    break
                position = end
                if kind == ITEM:
                    stream = streams.get(number)
                    if stream is not None and stream.receiving:
                        payload = data[begin:end]
                        stream.items.append((payload,) if flags & DUMP_FORMAT else payload)
                        if stream.bells:
                            stream.ring()
                        if stream.callback is not None:
                            self._schedule_callback(stream)
                else:
                    self._dispatch(kind, flags, number, data[begin:end])
        except ProtocolError:
            self._protocol_error(sys.exc_info()[1])
            position = size
        finally:
            if position < size:
                self._rest = data[position:]

    def _read_large(self):
        large = self._large
        if not large.read(self._incoming):
            self._large = None
            self._end(True)
        elif large.missing == 0:
            self._large = None
            try:
                self._dispatch(large.kind, large.flags, large.number, large.payload())
            except ProtocolError:
                self._protocol_error(sys.exc_info()[1])

    def _dispatch(self, kind, flags, number, payload):
        try:
            if not self._ended:
                self._handle(kind, flags, number, payload)
        except (DataFormatError, KeyError, TypeError, ValueError, AttributeError):
            raise ProtocolError("a frame of kind %#x with a payload that does not fit: %s" % (kind, sys.exc_info()[1]))

    def _handle(self, kind, flags, number, payload):
        stream = self._streams.get(number)
        if kind == ITEM:
            if stream is not None and stream.receiving:
                stream.items.append((payload,) if flags & DUMP_FORMAT else payload)
                stream.ring()
                self._schedule_callback(stream)
        elif kind == EXECUTE:
            self._begin(flags, number, payload)
        elif kind == OPEN:
            if stream is None:
                self._open(number)
        elif kind == LAST:
            if stream is not None:
                self._stop(stream, stream.sending)
        elif kind == CLOSE:
            if stream is not None:
                self._stop(stream, False)
        elif kind == CLOSE_ERROR:
            if stream is not None and stream.receiving:
                error = decode((payload,) if flags & DUMP_FORMAT else payload, (True, False), self)
                stream.error = remote_error(error)
                self._stop(stream, False)
        elif kind == CREDIT:
            if len(payload) != 4 or not any(bytearray(payload)):
                raise ProtocolError("a CREDIT of %r" % payload)
            (items,) = LENGTH(payload)
            if stream is None:
                self.early_credit = (number, items)
            elif stream.window:
                stream.add_credit(items)
        elif kind == PING:
            self._post(frame(PONG, 0, payload))
        elif kind == STATUS:
            self._post(control_frame(STATUS_REPLY, 0, self._status()))
        elif kind == RECONFIGURE:
            config = tuple(bool(value) for value in bytearray(payload))
            if len(config) != 2:
                raise ProtocolError("a RECONFIGURE of %d bytes" % len(config))
            if number == 0:
                self._config = config
            elif stream is not None:
                stream.config = config
        elif kind == TERMINATE:
            request = decode((payload,) if flags & DUMP_FORMAT else payload, (True, False), self) if payload else {}
            self._grace = float(request.get("grace", GRACE))
            self._end(False)
        elif kind != PONG and kind < 0x80:
            raise ProtocolError("a frame of kind %#x" % kind)

    def _status(self):
        try:
            directory = os.getcwd()
        except OSError:
            directory = ""
        return {
            "channels": sum(stream.sending or stream.receiving for stream in list(self._streams.values())),
            "executing": len(self._running),
            "queued": len(self._patient),
            "execmodel": text(self.execmodel.backend),
            "cwd": text(directory),
        }

    # Channels.

    def _channel(self, number):
        """Returns the handle for a channel that the other end mentioned."""
        stream = self._streams.get(number)
        channel = stream.handle() if stream is not None and stream.handle is not None else None
        if channel is None:
            if stream is None:  # it has ended, and this mention of it was on the way
                stream = Stream(number, self._config)
                stream.sending = stream.receiving = False
            channel = self._handle_of(stream, stream.codec or self.codec)
        return channel

    def give_codec(self, codec, coded, number):
        """Has the items of all channels that begin from now on, or of the one of this number, go through `codec`; `coded` makes such a
        kind of channel."""
        if self.coded is None:
            kinds = dict((kind, coded(kind)) for kind in (Channel, LimitedChannel))
            CHANNELS.update(kinds.values())
            self.coded = kinds.get
        if number is None:
            self.codec = codec
        elif number in self._streams:
            stream = self._streams[number]
            stream.codec = codec
            handle = stream.handle() if stream.handle is not None else None
            if handle is not None:
                self._give_codec(handle, codec)

    def send_last_words(self, channel, item):
        """Sends an item even if the end of the gateway has closed the channel: the other end listens until the process exits."""
        channel._stream.sending = True
        channel.send(item)

    def _open(self, number):
        """The stream of a channel that the other end opens."""
        stream = Stream(number, self._config)
        (of, window), self.early_credit = self.early_credit, (0, 0)
        if of == number and window:
            stream.limit(window)
        self._streams[number] = stream
        return stream

    def _plain_handle_of(self, stream):
        return (LimitedChannel if stream.window else Channel)(self, stream)

    def _handle_of(self, stream, codec):
        channel = self._plain_handle_of(stream)
        self._give_codec(channel, codec)
        return channel

    def _took(self, stream):
        items = stream.took()
        if items and (stream.sending or stream.receiving):
            self._post(frame(CREDIT, stream.id, LENGTH_FIELD(items)))

    def _give_codec(self, channel, codec):
        if codec is not None:
            channel._stream.codec = codec
            channel.__class__ = self.coded(channel.__class__, channel.__class__)

    def _stop(self, stream, sending):
        """Nothing more comes on `stream`; it ends if this side says no more either."""
        stream.sending = sending
        stream.receiving = False
        if not sending and stream.handle is not None:
            self._streams.pop(stream.id, None)
        stream.ring()
        if stream.callback is not None:
            self._schedule_callback(stream)

    def _close(self, stream, error):
        """This side ends `stream`, and says so unless the other side did before."""
        if not (stream.sending or stream.receiving):
            return
        self._stop(stream, False)
        if error is None:
            self._post(frame(CLOSE, stream.id))
        else:
            self._post(control_frame(CLOSE_ERROR, stream.id, error))
        if self._reader_of is stream and self._reading.locked():
            # A thread may be reading for this stream; only a frame from the other end gets it out of that.
            self._post(frame(PING, 0))

    def _drop(self, stream):
        """The handle of `stream` is gone."""
        if self._ended or not (stream.sending or stream.receiving):
            self._streams.pop(stream.id, None)
        elif stream.callback is not None and stream.receiving:
            if stream.sending:
                stream.sending = False
                self._post(frame(LAST, stream.id))
        else:
            self._close(stream, None)

    # Callbacks: one thread for all of them.

    def _schedule_callback(self, stream):
        if stream.callback is None or stream.scheduled:
            return
        stream.scheduled = True
        self._callback_list.append(stream)
        if self._callback_bell is None:
            with self._starting:
                starter = self._callback_bell is None
                if starter:
                    self._callback_bell = Doorbell()
            if starter:
                start_thread(self._call_back)
        self._callback_bell.ring()

    def _call_back(self):
        import_threading(self._main_thread)
        self._callback_strand = self._strand()
        while True:
            try:
                stream = self._callback_list.popleft()
            except IndexError:
                self._callback_bell.wait()
                continue
            stream.scheduled = False
            over = not stream.receiving  # looked at before the items: none come after it
            try:
                while stream.items:
                    stream.callback(decode(stream.items.popleft(), stream.config, self))
                    if stream.window:
                        self._took(stream)
            except BaseException:
                stream.items.clear()
                report = describe_exception(sys.exc_info(), None)
                if stream.sending or stream.receiving:  # both ends are told
                    stream.error = remote_error(report)
                self._close(stream, report)
                over = True
            if over and not stream.callback_ended:
                try:
                    if stream.endmarker is not NO_ENDMARKER:
                        stream.callback(stream.endmarker)
                except BaseException:
                    sys.stderr.write(native(describe_exception(sys.exc_info(), None)["text"]))
                stream.callback_ended = True
                stream.ring()
            stream = None  # the thread must not keep what it served last

    # Writing.

    def _send_parts(self, parts):
        """Writes one frame, given in parts, or raises OSError."""
        with self._writing:
            self._write_deferred()
            self._write(parts)
        if self._deferred:
            self._flush()

    def _post(self, data):
        """Writes one frame, or leaves it to the thread that is writing: this may be that very thread, in a `__del__`."""
        self._deferred.append((data,))
        self._flush()

    def _flush(self):
        try:
            while self._deferred and self._writing.acquire(False):
                try:
                    self._write_deferred()
                finally:
                    self._writing.release()
        except (IOError, OSError):  # the gateway has ended with that
            pass

    def _write_deferred(self):
        while self._deferred:
            self._write(self._deferred.popleft())

    def _write(self, parts):
        try:
            if len(parts) == 1:
                sent = write(self._outgoing, parts[0])
            else:
                sent = write_parts(self._outgoing, parts)
            parts = unsent(parts, sent)
            while parts:
                parts = unsent(parts, write(self._outgoing, parts[0]))
        except (IOError, OSError):
            if self._write_failed():
                parts = None
            raise
        finally:
            if parts:  # interrupted within a frame: whoever writes next completes it
                self._deferred.appendleft(parts)

    def _write_failed(self):
        if sys.exc_info()[1].errno is None:  # raised by a signal handler of user code
            return False
        self._deferred.clear()
        self._outgoing = -1
        self._end(True)
        return True

    # The end.

    def _protocol_error(self, error):
        sys.stderr.write("farexec worker: protocol error: %s\n" % error)
        self._end(True)

    def _end(self, cut_off):
        """The gateway ends: every channel does, and everybody who waits is woken."""
        if self._ended:
            return
        self._cut_off = cut_off
        self._ended = True
        for stream in list(self._streams.values()):
            self._stop(stream, False)
        self._main.ring()
        if self._standby_bell is not None:
            self._standby_bell.ring()

    def _watch_end(self):
        if self._cut_off:
            self._exit_within(GRACE_CUT_OFF, LAST_GRACE_CUT_OFF)
        try:
            start_thread(self._watch_input)
        except thread.error:  # the interpreter is being taken apart already
            pass
        self._exit_within(self._grace, LAST_GRACE)

    def _watch_input(self):
        """The coordinator may still be lost after it asked for the end, and with it whoever would kill what does not end."""
        while self._read():
            pass
        self._cut_off = True
        self._exit_within(GRACE_CUT_OFF, LAST_GRACE_CUT_OFF)

    def _exit_within(self, grace, last_grace):
        """Interrupts what does not end by itself, and then exits, whatever still runs: threads and exit handlers of user code."""
        sleep(grace)
        if self._main_busy:
            self._interrupt()
        sleep(last_grace)
        self._kill_group()
        os._exit(1)

    def _interrupt(self):
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(self._main_thread, signal.SIGINT)
        else:
            os.kill(os.getpid(), signal.SIGINT)

    def _forget(self):
        """In a forked child: the connection is the parent's."""
        self._ended = True
        self._group = False
        self._deferred.clear()
        self._task = None
        self._reading, self._writing, self._handing = [allocate_lock() for _ in range(3)]  # their holders are not here
        self._running.clear()
        for stream in list(self._streams.values()):
            stream.sending = stream.receiving = False
        descriptors = self._incoming, self._outgoing
        self._incoming = self._outgoing = -1
        for descriptor in descriptors:
            try:
                os.close(descriptor)
            except OSError:
                pass


class NativeGateway(WorkerGateway):
    """The connection of the extension module of a farexec that is installed here: as the one above, and faster."""

    kind = "native"

    def __init__(self, extension, incoming, outgoing, start):
        WorkerGateway.__init__(self, start)
        model, group = self.execmodel.backend, self._group
        kind = native_channel(extension)
        self._connection = extension.Worker(incoming, outgoing, self, kind, Errors, native(start.get("id") or "worker"), model, group)
        self.newchannel = self._connection.newchannel
        self._answer = self._connection.say_hello
        self._next_task = self._connection.next_task
        self._wait_idle = self._connection.wait_idle
        self._close_channel = self._connection.close
        atexit.register(self._connection.flush)

    def serve(self):
        WorkerGateway.serve(self)
        if self._connection.protocol_error:
            sys.stderr.write("farexec worker: protocol error: %s\n" % self._connection.protocol_error)

    def _has_executed(self, channel, in_main):
        self._connection.has_executed(in_main)

    @property
    def _cut_off(self):
        return self._connection.was_cut_off

    def give_codec(self, codec, coded, number):
        self._connection.set_codec(codec, number)

    def send_last_words(self, channel, item):
        if not self._connection.send_last_words(channel, item):
            raise OSError("the connection is closed")

    def _forget(self):
        self._group = False
        self._connection.forget()


class Errors(object):
    """Where the extension finds what it raises."""

    DumpError, LoadError, RemoteError, TimeoutError = DumpError, LoadError, RemoteError, TimeoutError


NATIVE_CHANNEL = []  # what native_channel() has made


def native_channel(extension):
    """Returns the kind of channel that a native worker has."""
    if NATIVE_CHANNEL:
        return NATIVE_CHANNEL[0]
    base = extension.Channel

    class NativeChannel(base):
        __doc__ = Channel.__doc__
        RemoteError, TimeoutError = RemoteError, TimeoutError
        makefile = Channel.makefile
        setcodec = property()  # it is the coordinator's to say
        _executing = False

        def close(self, error=None):
            if self._executing:
                raise OSError("cannot explicitly close channel within remote_exec")
            base.close(self, error)

    NativeChannel.__name__ = NativeChannel.__qualname__ = "Channel"
    NATIVE_CHANNEL.append(NativeChannel)
    return NativeChannel


def find_extension():
    """Returns the extension module of the farexec that can be imported here, if it fits; nothing else of the package is imported."""
    if PY2 or PYPY:
        return None
    extension = sys.modules.get(EXTENSION)
    try:
        if extension is None:
            for finder in sys.meta_path:
                package = finder.find_spec("farexec", None)
                if package is not None:
                    break
            found = sys.modules["_frozen_importlib_external"].PathFinder.find_spec(EXTENSION, package.submodule_search_locations)
            extension = import_extension(found.loader, found.origin)
        return extension if extension.WORKER_INTERFACE == WORKER_INTERFACE else None
    except Exception:  # there is none, or none for this interpreter: an ImportError, mostly
        return None


EXTENSION = "farexec._native"


def import_extension(loader, path):
    found = sys.modules["_frozen_importlib"].ModuleSpec(EXTENSION, loader, origin=path)
    extension = loader.create_module(found)
    extension.__spec__ = found
    loader.exec_module(extension)
    sys.modules[EXTENSION] = extension
    return extension


class Unthreaded(Gateway):
    """A gateway without a thread of its own (`threads=none`): whoever waits reads, and nobody does while user code computes."""

    def __init__(self, incoming, outgoing, start):
        Gateway.__init__(self, incoming, outgoing, start)
        self._standby_bell = Doorbell()  # as if there were a background thread
        self._signal_input()

    def _signal_input(self):
        """Has the system signal what happens to the input, so that its end is noticed while user code computes."""
        import fcntl
        import select

        if not hasattr(fcntl, "F_SETSIG"):  # not Linux; any other signal would end the process where nobody takes it
            return
        self._new_poll, self._hung_up = select.poll, select.POLLHUP
        signal.signal(signal.SIGURG, self._look_for_end)
        fcntl.fcntl(self._incoming, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(self._incoming, fcntl.F_SETOWN, self._pid)
        fcntl.fcntl(self._incoming, fcntl.F_SETFL, fcntl.fcntl(self._incoming, fcntl.F_GETFL) | fcntl.FASYNC)

    def _look_for_end(self, _number, _frame):
        if self._ended:
            return
        poll = self._new_poll()  # a signal may come while another one is looked after, and one of these serves one at a time
        poll.register(self._incoming, self._hung_up)
        if any(event & self._hung_up for _, event in poll.poll(0)):
            self._end(True)

    def _hand_to_main(self, task):
        with self._handing:
            if self._main_busy:
                return False
            self._main_busy = True
            self._running[task[0].id] = True
            self._task = task
            return True

    def _run_beside(self, task):
        self._running.pop(task[0].id, None)
        self._refuse(task, "an execution is running, and a worker with threads=none has no thread for another")

    def _schedule_callback(self, stream):
        stream.callback = None
        raise OSError("a worker with threads=none has no thread that would call it back")

    def _end(self, cut_off):
        if self._ended:
            return
        Gateway._end(self, cut_off)
        try:
            signal.signal(signal.SIGALRM, self._time_is_up)
            signal.setitimer(signal.ITIMER_REAL, GRACE_CUT_OFF if cut_off else max(self._grace, 0.001))
        except ValueError:  # this is a thread of user code's
            pass

    def _time_is_up(self, _number, _frame):
        if self._grace is None:
            self._kill_group()
            os._exit(1)
        self._grace = None
        signal.setitimer(signal.ITIMER_REAL, LAST_GRACE_CUT_OFF if self._cut_off else LAST_GRACE)
        if self._main_busy:
            raise KeyboardInterrupt


class ExecModel(object):
    """What `gateway.execmodel` offers to user code: the primitives of the model, without importing them here."""

    def __init__(self, backend):
        self.backend = backend

    def __repr__(self):
        return "<ExecModel %r>" % self.backend

    def __getattr__(self, name):
        if name in ("subprocess", "socket"):
            return __import__(name)
        if name == "queue":
            return __import__("Queue" if PY2 else "queue")
        if name in ("Lock", "RLock", "Event"):
            return getattr(__import__("threading"), name)
        raise AttributeError(name)

    def get_ident(self):
        return thread.get_ident()

    def sleep(self, delay):
        time.sleep(delay)

    def start(self, function, args=()):
        return thread.start_new_thread(function, args)

    def fdopen(self, descriptor, mode, bufsize=1, closefd=True):
        return os.fdopen(descriptor, mode, bufsize) if PY2 else os.fdopen(descriptor, mode, bufsize, closefd=closefd)


# Executing.


def run(channel, request):
    """Executes what an EXECUTE frame asks for."""
    namespace = {"__name__": "__channelexec__", "channel": channel}
    call = request.get("call")
    arguments = dict((native(name), value) for name, value in (request.get("kwargs") or {}).items())
    if call is None:
        namespace.update(arguments)
    exec(code_of(request), namespace)
    if call is not None:
        namespace[native(call)](channel, **arguments)


CODE = {}  # compiled texts, by what they were compiled of: the same is often executed again
CODE_KEPT = 64
CODE_LENGTH = 1 << 14  # characters of a text that is kept


def code_of(request):
    key = request["source"], request.get("file"), request.get("line", 1)
    code = CODE.get(key)
    if code is None:
        code = compile_source(request)
        if len(key[0]) <= CODE_LENGTH:
            if len(CODE) >= CODE_KEPT:
                CODE.clear()
            CODE[key] = code
    return code


def compile_source(request):
    source = request["source"]
    lines = source.split("\n", 2)
    if PY2:  # text that declares an encoding is refused there
        for number in range(min(2, len(lines))):
            if lines[number].lstrip().startswith("#"):
                lines[number] = lines[number].replace("coding", "c0ding")
        source = "\n".join(lines)
    source = "\n" * (request.get("line", 1) - 1) + source
    return compile(source, native(request.get("file") or "<remote exec>"), "exec", 0, True)


DESCRIBING = allocate_lock()  # two executions may have the same file name
MOST_CAUSES = 10  # of an exception that are told of: one that is raised again and again may have any number


def describe_exception(exc_info, request, between=None):
    """Returns what CLOSE_ERROR says about an exception; frames of this file, and of one in between, are left out."""
    try:
        return describe_with_source(exc_info, request, between)
    except Exception:  # the modules for that cannot be loaded, if there are no more descriptors, for one
        name = text(exc_info[0].__name__)
        try:
            message = text(str(exc_info[1]))
        except Exception:
            message = text("(its description failed)")
        return {"text": name + text(": ") + message + text("\n"), "type": name, "message": message, "frames": []}


def describe_with_source(exc_info, request, between):
    import linecache

    has_text = request is not None and "source" in request
    name = native(request.get("file") or "<remote exec>") if has_text else None
    DESCRIBING.acquire()
    known = linecache.cache.get(name)
    try:
        if name:  # so that source lines can be shown, for as long as this takes
            lines = [""] * (request.get("line", 1) - 1) + request["source"].split("\n")
            linecache.cache[name] = (1, None, [native(line) + "\n" for line in lines], name)
        return report_of(exc_info, (main.__code__.co_filename, between), MOST_CAUSES, True)
    finally:
        linecache.cache.pop(name, None)
        if known is not None:
            linecache.cache[name] = known
        DESCRIBING.release()


def report_of(exc_info, own, causes, whole):
    """Returns what is said about one exception, without frames of `own` files; of what caused it as well, but of no more than so many.

    `whole`: its text tells of them, too.
    """
    import traceback

    kind, error, trace = exc_info
    try:
        parts = traceback.format_exception(kind, error, trace, **({} if whole else {"chain": False}))
        parts = [part for part in parts if not any(part.startswith('  File "%s"' % file) for file in own)]
        frames = [tuple(frame)[:4] for frame in traceback.extract_tb(trace)]
    except Exception:  # the exception's own __str__ failed, for one
        parts, frames = ["%s: (its description failed)" % kind.__name__], []
    try:
        message = text(str(error))
    except Exception:
        message = text("")
    report = {
        "text": text("".join(native(part) for part in parts)),
        "type": text(name_of_type(kind)),
        "message": message,
        "frames": [
            (text(file), line or 0, text(function), text(line_text or "")) for file, line, function, line_text in frames if file not in own
        ],
    }
    try:
        notes = [text(str(note)) for note in getattr(error, "__notes__", ())]
        cause = getattr(error, "__cause__", None)
        if cause is None and not getattr(error, "__suppress_context__", True):
            cause = error.__context__
    except Exception:  # a class may give these names to anything
        return report
    if notes:
        report["notes"] = notes
    if isinstance(cause, BaseException) and causes and not PY2:  # where it would have no traceback
        report["cause"] = report_of((type(cause), cause, cause.__traceback__), own, causes - 1, False)
    return report


def import_threading(main_thread):
    """Imports `threading` in a thread that is not the main one, before user code does.

    Before Python 3.13 it takes the thread that imports it for the main thread, which makes the exit of the process fail.
    """
    import threading

    here = get_ident()
    active = threading._active.get(here)
    if active is None or type(active).__name__ != "_MainThread":
        return
    threading._active[main_thread] = threading._active.pop(here)
    setattr(active, "_Thread__ident" if PY2 else "_ident", main_thread)
    if getattr(active, "_native_id", None) is not None:
        active._native_id = os.getpid()
    lock = getattr(active, "_tstate_lock", None)
    if lock is not None:  # it would be released when this thread ends
        locks = getattr(threading, "_shutdown_locks", set())
        locks.discard(lock)
        active._tstate_lock = allocate_lock()
        active._tstate_lock.acquire()
        locks.add(active._tstate_lock)


def forget_in_children(forget):
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forget)
        return
    fork = os.fork  # Python before 3.7

    def fork_and_forget():
        child = fork()
        if child == 0:
            forget()
        return child

    os.fork = fork_and_forget


# Reading and writing descriptors.


class ProtocolError(Exception):
    """The other end does not keep to the protocol."""


class LargePayload(object):
    """A payload that takes many reads. Memory is taken as data arrives, not as it is announced."""

    def __init__(self, kind, flags, number, length, begun, spare):
        self.kind, self.flags, self.number = kind, flags, number
        self.missing = length - len(begun)
        self._room = min(length, LARGE_READ)  # in the last chunk
        self._filled = len(begun)  # of the last chunk
        if spare is None:
            spare = bytearray(LARGE_READ)
        spare[: self._filled] = begun
        self._chunks = [spare]

    def read(self, descriptor):
        """Reads once; returns False at the end of the input."""
        if self._filled == self._room:
            self._room = min(self.missing, self._filled * 2)
            self._chunks.append(bytearray(self._room))
            self._filled = 0
        got = read_into(descriptor, memoryview(self._chunks[-1]), self._filled, self._room)
        self._filled += got
        self.missing -= got
        return got > 0

    def payload(self):
        if len(self._chunks) > 1:
            return b"".join(bytes(chunk) for chunk in self._chunks)
        view = memoryview(self._chunks[0])[: self._filled]
        return view.tobytes() if PYPY or PY2 else view


def read_into(descriptor, view, begin, end):
    try:
        if READV is not None:
            return READV(descriptor, [view[begin:end]])
        data = read(descriptor, min(LARGE_READ, end - begin))
        view[begin : begin + len(data)] = data
        return len(data)
    except (IOError, OSError):
        if sys.exc_info()[1].errno is None:  # raised by a signal handler of user code
            raise
        return 0


def start_thread(function):
    """Starts a background thread, which must not complain when Python 2 takes the modules apart around it."""

    def run_quietly():
        try:
            function()
        except:  # noqa: E722  by then BaseException may be gone
            if PY2 is False:
                raise

    start_new_thread(run_quietly, ())


def until_done(function):
    """Repeats a system call that a signal interrupts, as Python 3 does by itself."""

    def call(*arguments):
        while True:
            try:
                return function(*arguments)
            except (IOError, OSError):
                if sys.exc_info()[1].errno != errno.EINTR:
                    raise

    return call


def unsent(parts, sent):
    """Returns what is left of `parts` after `sent` bytes of them."""
    if len(parts) == 1 and sent == len(parts[0]):
        return ()
    parts = list(parts)
    while parts and sent >= len(parts[0]):
        sent -= len(parts.pop(0))
    if sent:
        parts[0] = memoryview(parts[0])[sent:]
    return tuple(parts)


def write_first(descriptor, parts):
    return write(descriptor, parts[0])


read = until_done(os.read) if PY2 else os.read
write = until_done(os.write) if PY2 else os.write
write_parts = getattr(os, "writev", write_first)
READV = getattr(os, "readv", None)


def frame(kind, number, payload=b"", flags=0):
    return HEADER.pack(kind, flags, number, len(payload)) + payload


def control_frame(kind, number, content):
    return frame(kind, number, dump(content, b"S"), DUMP_FORMAT)


# Text: the protocol's strings are Unicode; `str` is what Python calls native.


def text(value):
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, text_type) else text(str(value))


def native(value):
    if PY2:
        return value.encode("utf-8") if isinstance(value, text_type) else value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


# The two encodings of items.


def encode(item, config, gateway):
    """Returns the flags and the parts of the payload that carry `item`."""
    if WRITES_MESSAGE and not config[1]:  # whether a string is to be read as bytes, only the dump format tells
        simple = SIMPLE.get(type(item))
        if simple is not None:
            return 0, simple(item)
        return encode_message(item)
    return DUMP_FORMAT, (dump(item),)


def encode_message(item):
    from io import BytesIO

    out = BytesIO()
    problem = None
    if pickler_type is None:
        define_pickler()
    pickler = pickler_type(out, 4)
    pickler.fast = True  # no memo: nothing may refer back
    try:
        pickler.dump(item)
    except NeedsDumpFormat:
        return DUMP_FORMAT, (dump(item),)
    except Exception:
        problem = sys.exc_info()[1]
    if problem is not None:
        refuse(item, problem)
    payload = out.getvalue()
    if has_surrogates(payload):
        refuse(item, None)
    return 0, (payload,)


def encode_str(item):
    try:
        data = item.encode("utf-8")
    except UnicodeError:
        data = None
    if data is None:
        refuse(item, None)
    size = len(data)
    if size < 256:
        return (b"\x8c" + pack("<B", size) + data + b".",)
    return (b"X" + pack("<I", size), data, b".") if size <= PAYLOAD_LIMIT else refuse_size(size)


def encode_bytes(item):
    size = len(item)
    if size < 256:
        return (b"C" + pack("<B", size) + item + b".",)
    return (b"B" + pack("<I", size), item, b".") if size <= PAYLOAD_LIMIT else refuse_size(size)


def refuse_size(size):
    raise DumpError("an item of %d bytes is too large to be sent" % size)


SIMPLE = {
    type(None): lambda item: (b"N.",),
    bool: lambda item: (b"\x88." if item else b"\x89.",),
    float: lambda item: (b"G" + pack(">d", item) + b".",),
    text_type: encode_str,
    bytes: encode_bytes,
}


# Set at their first use: pickle takes milliseconds to import.
pickler_type = None
load_message = None


def define_pickler():
    global pickler_type
    from _pickle import Pickler

    class MessagePickler(Pickler):
        def reducer_override(self, item):
            """Is asked about everything that is not plain data."""
            if type(item) is complex or type(item) in CHANNELS:
                raise NeedsDumpFormat
            raise DumpError("cannot send %r" % type(item))

    pickler_type = MessagePickler


def import_loads():
    global load_message
    try:
        from _pickle import loads
    except ImportError:  # PyPy
        from pickle import loads
    load_message = loads


def decode(payload, config, gateway):
    """Returns the item in a payload; those in the dump format are wrapped in a tuple."""
    if type(payload) is tuple:
        return load_dump(payload[0], config, gateway)
    if load_message is None:
        import_loads()
    try:
        item = load_message(payload)
        if type(payload) is memoryview:
            gateway._spare = payload.obj  # fresh memory costs as much as filling it
        return item
    except Exception:
        problem = sys.exc_info()[1]
    raise LoadError("cannot read an item: %s" % problem)


class NeedsDumpFormat(Exception):
    """An item holds a complex number or a channel."""


def has_surrogates(encoded):
    """Whether there may be lone surrogates in UTF-8: ED, a byte from A0 on, one from 80 to BF. What else is encoded seldom has the same."""
    if b"\xed" not in encoded:
        return False
    return any(part[:1] >= b"\xa0" and b"\x80" <= part[1:2] <= b"\xbf" for part in encoded.split(b"\xed")[1:])


def dump(item, native_opcode=b"M"):
    """Returns `item` in the dump format; `native_opcode` is for the `str` of Python 2."""
    parts = []
    problem = None
    try:
        dump_into(parts.append, item, native_opcode, 0)
        parts.append(b"Q")
    except Exception:
        problem = sys.exc_info()[1]
    if problem is not None:
        refuse(item, problem)
    return b"".join(parts)


def dump_into(add, item, native_opcode, depth):
    kind = type(item)
    if kind is int:
        if -0x80000000 <= item <= 0x7FFFFFFF:
            add(b"F" + pack(">i", item))
        else:
            add_data(add, b"H", decimal(item))
    elif kind is text_type:
        data = item.encode("utf-8")
        if PY2 and has_surrogates(data):
            raise DumpError("lone surrogates")
        add_data(add, b"S" if PY2 else b"N", data)
    elif kind is bytes:
        add_data(add, native_opcode if PY2 else b"A", item)
    elif depth > NESTING_LIMIT:
        raise DumpError("nested too deeply")
    elif kind is list:
        add(b"K" + pack(">i", len(item)))
        for index, value in enumerate(item):
            add(b"F" + pack(">i", index))
            dump_into(add, value, native_opcode, depth + 1)
            add(b"P")
    elif kind is dict:
        add(b"J")
        for key, value in item.items():
            dump_into(add, key, native_opcode, depth + 1)
            dump_into(add, value, native_opcode, depth + 1)
            add(b"P")
    elif kind in COUNTED:
        for value in item:
            dump_into(add, value, native_opcode, depth + 1)
        add(COUNTED[kind] + pack(">i", len(item)))
    elif item is None:
        add(b"L")
    elif kind is bool:
        add(b"R" if item else b"C")
    elif kind is float:
        add(b"D" + pack(">d", item))
    elif kind is complex:
        add(b"T" + pack(">dd", item.real, item.imag))
    elif kind in CHANNELS:
        add(b"B" + pack(">i", item.id))
    elif PY2 and kind is long:  # noqa: F821
        if -0x80000000 <= item <= 0x7FFFFFFF:
            add(b"G" + pack(">i", item))
        else:
            add_data(add, b"I", decimal(item))
    else:
        raise DumpError("cannot send %r" % kind)


COUNTED = {tuple: b"@", set: b"O", frozenset: b"E"}


def add_data(add, opcode, data):
    add(opcode + pack(">i", len(data)))
    add(data)


def load_dump(data, config=(True, False), gateway=None):
    """Returns the object in the dump format that `data` is."""
    if type(data) is not bytes:
        data = bytes(data)
    try:
        return load_from(data, config, gateway)
    except (StructError, IndexError, TypeError, ValueError, KeyError, MemoryError):
        problem = sys.exc_info()[1]
    raise LoadError("these bytes are no item: %s" % problem)


# For START and HELLO; where an extension module is there before them, it does both.
load_start = load_dump


def dump_own(own):
    return dump(own, b"S")


def load_from(data, config, gateway):
    stack = []
    push, pop = stack.append, stack.pop
    position = 0
    while True:
        opcode = data[position : position + 1]
        position += 1
        if opcode == b"F" or opcode == b"G":
            value = unpack_from(">i", data, position)[0]
            push(long(value) if PY2 and opcode == b"G" else value)  # noqa: F821
            position += 4
        elif opcode == b"P":
            value = pop()
            key = pop()
            stack[-1][key] = value
        elif opcode in DATA_OPCODES:
            size = unpack_from(">i", data, position)[0]
            begin = position + 4
            position = begin + size
            if size < 0 or position > len(data):
                raise ValueError("%d bytes announced where fewer are left" % size)
            push(convert(opcode, data[begin:position], config))
        elif opcode in CONSTANTS:
            push(CONSTANTS[opcode])
        elif opcode == b"J":
            push({})
        elif opcode == b"K":
            size = unpack_from(">i", data, position)[0]
            position += 4
            if not 0 <= size <= len(data):
                raise ValueError("a list of %d elements announced where fewer are left" % size)
            push([None] * size)
        elif opcode in COLLECTIONS:
            size = unpack_from(">i", data, position)[0]
            position += 4
            if not 0 <= size <= len(stack):
                raise ValueError("a collection of %d elements where fewer are left" % size)
            begin = len(stack) - size
            values = stack[begin:]
            del stack[begin:]
            push(COLLECTIONS[opcode](values))
        elif opcode == b"D":
            push(unpack_from(">d", data, position)[0])
            position += 8
        elif opcode == b"T":
            push(complex(*unpack_from(">dd", data, position)))
            position += 16
        elif opcode == b"B":
            push(gateway._channel(unpack_from(">i", data, position)[0]))
            position += 4
        elif opcode == b"Q":
            if len(stack) != 1 or position != len(data):
                raise ValueError("it does not end where it should")
            return stack[0]
        else:
            raise ValueError("unknown opcode %r" % opcode)


CONSTANTS = {b"L": None, b"R": True, b"C": False}
COLLECTIONS = {b"@": tuple, b"O": set, b"E": frozenset}
DATA_OPCODES = frozenset((b"N", b"M", b"S", b"A", b"H", b"I"))


def convert(opcode, data, config):
    """Returns the object that an opcode with data stands for; `config` is as Channel.reconfigure has it."""
    py2str_as_py3str, py3str_as_py2str = config
    if opcode == b"N":
        return data if py3str_as_py2str else data.decode("utf-8")
    if opcode == b"S":
        return data.decode("utf-8")
    if opcode == b"A":
        return data
    if opcode == b"M":
        return data.decode("latin-1") if py2str_as_py3str and not PY2 else data
    value = parse_decimal(data[1:], -1) if data[:1] == b"-" else parse_decimal(data, 1)
    return long(value) if PY2 and opcode == b"I" else value  # noqa: F821


# Python limits the digits of an int that it converts to or from decimal; these do it piece by piece.
DIGITS_AT_ONCE = 600


def decimal(value):
    if value < 0:
        return b"-" + decimal(-value)
    if value.bit_length() < DIGITS_AT_ONCE * 3:
        return str(value).encode("ascii")
    digits = value.bit_length() * 3 // 20  # about half of them
    high, low = divmod(value, 10**digits)
    return decimal(high) + decimal(low).rjust(digits, b"0")


def parse_decimal(digits, sign):
    if not digits.isdigit():
        raise ValueError("no digits: %r" % digits[:20])
    if len(digits) <= DIGITS_AT_ONCE:
        return sign * int(digits)
    half = len(digits) // 2
    return sign * (parse_decimal(digits[:-half], 1) * 10**half + parse_decimal(digits[-half:], 1))


def refuse(item, problem):
    """Raises the DumpError that says what in `item` cannot be sent, and where."""
    try:
        found = find_culprit(item, "data", set())
    except RuntimeError:  # a RecursionError in Python 3
        found = "data", TOO_DEEP
    if found is None and problem is None:
        return
    if found is None:
        error = DumpError("cannot encode data: %s" % problem)
    else:
        place, why = found
        # The parentheses are for what stands behind them.
        error = DumpError("cannot encode %s: %s" % (place[1:-1] if place[-1] == ")" else place, why))
    error.__cause__ = None  # what led here is of no interest
    error.__suppress_context__ = True
    raise error


TOO_DEEP = "containers nested more than %d levels deep" % NESTING_LIMIT


def find_culprit(item, path, above):
    kind = type(item)
    if kind is text_type:
        try:
            if not has_surrogates(item.encode("utf-8")):
                return None
        except UnicodeError:
            pass
        return path, "a string that has no UTF-8 form, because of lone surrogates in it"
    if kind not in CONTAINERS:
        return None if kind in PLAIN or kind in CHANNELS else (path, "object of type `%s`" % name_of_type(kind))
    if id(item) in above:
        return path, "it contains itself"
    above.add(id(item))
    if len(above) > NESTING_LIMIT:
        return path, TOO_DEEP
    if kind is dict:
        for key, value in item.items():
            found = find_culprit(key, "(a key of %s)" % path, above)
            if found is None:
                place = repr(key)
                found = find_culprit(value, "%s[%s]" % (path, place if len(place) < 60 else place[:57] + "..."), above)
            if found is not None:
                return found
    else:
        for index, value in enumerate(item):
            if type(value) in PLAIN:  # nearly all, where it is long: no need to say where they are
                continue
            place = "%s[%d]" % (path, index) if kind in (list, tuple) else "(an element of %s)" % path
            found = find_culprit(value, place, above)
            if found is not None:
                return found
    above.remove(id(item))
    return None


def name_of_type(kind):
    """Returns the name of a type with that of its module, unless it is a built-in one."""
    module = getattr(kind, "__module__", None)
    name = getattr(kind, "__qualname__", kind.__name__)
    return name if module in (None, "builtins", "exceptions", "__builtin__") else "%s.%s" % (module, name)


CONTAINERS = frozenset((list, tuple, dict, set, frozenset))
PLAIN = frozenset((type(None), bool, int, float, complex, bytes) + ((long,) if PY2 else ()))  # noqa: F821
