"""The template: a warm interpreter, started like a worker, that forks workers instead of becoming one.

Executed behind worker.py in the same namespace, by CPython from 3.7 on, on Linux. Its standard input is a socket, over which its
coordinator asks for workers; `crates/farexec/src/template.rs` is the other end, and tells the messages. It has one thread, executes nothing
but the preloads, and keeps no descriptor of any worker.

A forked process copies each page of memory that it writes to, and whoever looks at an object writes to its count of references. So
what can be done before the fork is done there, and the worker does little, with few objects.
"""
# ruff: noqa: F821  the names of worker.py

REQUEST = Struct("<cI")  # kind, length of the body
STATE = Struct("<IQiI")  # umask, ignored signals, niceness, length of the processors' mask
LIMITS = Struct("<32Q")  # soft and hard, by their numbers
PASSED = Struct("=5i")  # input and output of the protocol, standard output, standard error, working directory
PID = Struct("<I")
NAME = b"farexec-tmpl"  # in the system's list of processes
NEVER = 2**31 - 9  # objects made, before the collector runs
COMM = "/proc/self/comm"  # where that stands


class Template(object):
    """The connection to the coordinator, and what the next worker inherits."""

    def __init__(self):
        from _socket import CMSG_SPACE, MSG_CMSG_CLOEXEC, MSG_WAITALL, socket

        self._socket = connection = socket(fileno=move_high(0))
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        if null > 2:
            os.close(null)
        os.dup2(2, 1)
        self._receive = connection.recvmsg, (REQUEST.size, CMSG_SPACE(PASSED.size), MSG_CMSG_CLOEXEC | MSG_WAITALL)
        self._receive_rest = lambda length: connection.recv(length, MSG_WAITALL)
        self._name = name_of_process()
        rename(NAME)

    def fork_workers(self):
        """Forks a worker for each request. Returns in the worker: the descriptors of its protocol, and what went wrong, if anything did."""
        kind, body, _descriptors = self._next()
        start = load_dump(body)
        self._set_up(start["state"])
        self._state = start["state"]
        problem = self._preload(start["preload"])
        if problem:
            self._answer(b"E", problem.encode("utf-8", "replace"))
            os._exit(0)
        self._answer(b"R", b"")
        while True:
            kind, body, descriptors = self._next()
            if kind == b"W":
                os.waitpid(PID.unpack(body)[0], 0)
                continue
            if body != self._state:
                self._follow(body)
            try:
                pid = os.fork()
            except OSError:
                self._answer(b"N", str(sys.exc_info()[1]).encode("utf-8", "replace"))
            else:
                if pid == 0:
                    return self._become_worker(descriptors)
                try:
                    os.setpgid(pid, pid)
                except OSError:  # it has ended already
                    pass
                self._answer(b"P", PID.pack(pid))
            for descriptor in descriptors:
                os.close(descriptor)

    def _next(self):
        receive, arguments = self._receive
        data, ancillary, _flags, _address = receive(*arguments)
        if len(data) < REQUEST.size:
            os._exit(0)  # the coordinator is gone, or has no use for a template any more
        kind, length = REQUEST.unpack(data)
        body = self._receive_rest(length) if length else b""
        descriptors = PASSED.unpack(ancillary[0][2]) if ancillary else ()
        return kind, body, descriptors

    def _answer(self, kind, body):
        try:
            self._socket.sendall(REQUEST.pack(kind, len(body)) + body)
        except OSError:
            os._exit(0)

    # What workers have in common.

    def _set_up(self, state):
        """Takes note of what the coordinator had at the start of the template, and of what a script in between made of it."""
        signal.signal(signal.SIGINT, signal.default_int_handler)  # as a worker has it
        umask, ignored, nice, limits, processors, environment = parts(state)
        self._umask, self._ignored, self._processors = umask, ignored, processors
        self._started_with = nice, limits
        self._nice, self._limits = nice, limits
        given, found = variables(environment), os.environb
        self._changes = [(name, value) for name, value in found.items() if given.get(name) != value]
        self._changes += [(name, None) for name in given if name not in found]
        self._environment = environment

    def _preload(self, names):
        thresholds = gc.get_threshold()
        gc.set_threshold(NEVER, *thresholds[1:])  # nearly all that is imported stays; what does not is looked for once, below
        problem = preload(names)
        if problem:
            return problem
        if gc.get_threshold()[0] == NEVER:  # else a module has its own idea of it
            gc.set_threshold(*thresholds)
        if thread._count() > 0:
            return "cannot preload %s: that starts a thread, which no fork copies" % ", ".join(names)
        self._draws = sys.modules.get("numpy.random")
        extension = find_extension()
        if extension is not None:
            native_channel(extension)
            globals()["load_start"] = lambda payload: extension.loads(b"\2" + payload)  # the version, which payloads leave out
        else:
            import_loads()
        about_interpreter()
        rehearse()
        self._high = free_numbers(self._socket.fileno())
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        if names:
            gc.collect()
        gc.freeze()  # no worker's collector looks at what they share, which would copy it

    def _follow(self, state):
        """Sets what has changed at the coordinator since the last worker."""
        umask, ignored, nice, limits, processors, environment = parts(state)
        if umask != self._umask:
            os.umask(umask)
        if ignored != self._ignored:
            changed = ignored ^ self._ignored
            for number in range(1, 32):
                if changed >> (number - 1) & 1 and number not in OWN_SIGNALS:
                    signal.signal(number, signal.SIG_IGN if ignored >> (number - 1) & 1 else signal.SIG_DFL)
        if processors != self._processors:
            mask = int.from_bytes(processors, "little")
            os.sched_setaffinity(0, [number for number in range(len(processors) * 8) if mask >> number & 1])
        if environment != self._environment:
            self._set_environment(variables(environment))
        self._umask, self._ignored, self._processors, self._environment = umask, ignored, processors, environment
        self._nice, self._limits = nice, limits
        self._state = state

    def _set_environment(self, wanted):
        for name, value in self._changes:
            if value is None:
                wanted.pop(name, None)
            else:
                wanted[name] = value
        zone = os.environb.get(b"TZ")
        for name in [name for name in os.environb if name not in wanted]:
            del os.environb[name]
        for name, value in wanted.items():
            if os.environb.get(name) != value:
                os.environb[name] = value
        if zone != os.environb.get(b"TZ"):
            time.tzset()

    # The worker, after the fork.

    def _become_worker(self, descriptors):
        incoming, outgoing, stdout, stderr, directory = descriptors
        close, dup2, high = os.close, os.dup2, self._high
        close(self._socket.detach())
        problem = None
        try:
            os.setpgid(0, 0)
            rename(self._name)
            dup2(stdout, 1)
            dup2(stderr, 2)
            os.fchdir(directory)
            if (self._nice, self._limits) != self._started_with:
                self._set_limits()
            if self._draws is not None:  # else all workers would draw the same numbers; `random` sees to that itself
                self._draws.seed()
        except Exception:
            problem = "%s: %s" % (sys.exc_info()[0].__name__, sys.exc_info()[1])
        try:
            incoming, outgoing = dup2(incoming, high, False), dup2(outgoing, high + 1, False)
        except OSError:  # the process may not have that many
            incoming, outgoing = move_high(incoming), move_high(outgoing)
        for descriptor in descriptors:
            close(descriptor)
        return incoming, outgoing, problem

    def _set_limits(self):
        nice, limits = self._started_with
        if self._limits != limits:
            import resource

            before, now = LIMITS.unpack(limits), LIMITS.unpack(self._limits)
            for number in range(16):
                pair = now[2 * number : 2 * number + 2]
                if pair != before[2 * number : 2 * number + 2]:
                    resource.setrlimit(number, tuple(-1 if value == 2**64 - 1 else value for value in pair))
        if self._nice != nice:
            os.setpriority(os.PRIO_PROCESS, 0, self._nice)


OWN_SIGNALS = (2, 9, 13, 19, 25)  # an interpreter or the worker sets these itself, or nobody can: INT, KILL, PIPE, STOP, XFSZ


def parts(state):
    """Cuts up what a coordinator says of itself."""
    umask, ignored, nice, size = STATE.unpack_from(state)
    begin = STATE.size + LIMITS.size
    return umask, ignored, nice, state[STATE.size : begin], state[begin : begin + size], state[begin + size :]


def variables(environment):
    return dict(item.split(b"=", 1) for item in environment.split(b"\0") if b"=" in item[1:])


def name_of_process():
    """Returns the name of this process in the system's list of processes."""
    descriptor = os.open(COMM, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 64)[:-1]
    finally:
        os.close(descriptor)


def rename(name):
    """Gives this process a name in the system's list of processes, if it may."""
    try:
        descriptor = os.open(COMM, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(descriptor, name)
    finally:
        os.close(descriptor)


def free_numbers(own):
    """Returns the first of two numbers for the protocol's descriptors, above all that the preloads and the next worker take up.

    :param own: the number of the template's connection, which no worker has.
    """
    taken = [int(name) for name in os.listdir("/proc/self/fd")]
    return max([HIGH_DESCRIPTOR] + [number + 16 for number in taken if number != own])


def rehearse():
    """Does once what every worker will, as far as it leaves nothing behind.

    What the interpreter and the system's loader look up at its first use they remember; a worker that has it remembered copies no
    memory to do so itself.
    """
    start = load_start(dump({"id": text("rehearsal"), "native": True}, b"S"))
    SET_UP_BY.isdisjoint(start)
    apply_start(start)
    gateway_class(start)
    kind = Gateway if not NATIVE_CHANNEL else NativeGateway
    gateway = kind.__new__(kind)
    WorkerGateway.__init__(gateway, start)
    gateway._answer = lambda *answer: None
    gateway.say_hello(None)
    for name in ("_forget", "serve"):
        getattr(gateway, name)
    for _ in range(2):  # what is compiled is kept the first time, and found the second
        run(None, {"source": text("None"), "file": None, "kwargs": {}})
    CODE.clear()
