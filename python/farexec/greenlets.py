"""What makes a zero-install worker one of the execution models gevent and eventlet.

A worker is extended by this text, behind that of hubs.py, in the namespace of worker.py, only if its model is one of the two. Every
execution is a greenlet of the main thread, and so is whatever calls callbacks. The connection is read by a thread of the system, which
knows nothing of greenlets, whatever modules user code has patched: so an end, a ping or a status request is noticed while greenlets
compute. What that thread has for the greenlets it puts into a list, and a pipe wakes the main greenlet to do it.
"""


LET_GO = 0.2  # seconds after which a greenlet that lets no other run is interrupted by a signal


def green_gateway(model):
    """Returns what makes the gateway of this model."""
    hub = hub_of(model)  # noqa: F821  of hubs.py

    def make(incoming, outgoing, start):
        return GreenGateway(incoming, outgoing, start, hub)

    return make


class GreenBell(object):
    """A doorbell at which a greenlet waits. Rung by whoever likes."""

    def __init__(self, gateway):
        self._gateway = gateway
        self._semaphore = gateway.hub.semaphore()

    def ring(self):
        self._gateway.call_soon(self._release)

    def _release(self):
        if not self._semaphore.counter:
            self._semaphore.release()

    def wait(self, timeout=None):
        if timeout is None:
            self._semaphore.acquire()
        elif timeout > 0:
            self._semaphore.acquire(timeout=timeout)


class GreenGateway(Gateway):  # noqa: F821  of worker.py, like all capitals and functions that are not defined here
    """The worker's end of the connection, whose executions are greenlets."""

    def __init__(self, incoming, outgoing, start, hub):
        self.hub = hub
        self._soon = deque()  # noqa: F821  what the main greenlet is to call
        self._soon_rung = False
        ear, mouth = os.pipe()  # noqa: F821
        self._ear, self._mouth = move_high(ear), move_high(mouth)  # noqa: F821
        os.close(ear)  # noqa: F821
        os.close(mouth)  # noqa: F821
        self._greenlets = {}  # by the numbers of their executions
        self._interrupted = False
        Gateway.__init__(self, incoming, outgoing, start)  # noqa: F821
        self.execmodel = GreenModel(self.execmodel.backend, hub)
        self._main_busy = True  # nothing is handed to the main greenlet
        self._standby_bell = Doorbell()  # noqa: F821  the thread that reads is started here, once
        self._callback_bell = GreenBell(self)
        self._main.bells.append(self)

    def ring(self):
        """Has the main greenlet look whether all is over."""
        self.call_soon(int)

    def call_soon(self, function, *arguments):
        """Has the main greenlet call a function, which must not wait. From any thread."""
        self._soon.append((function, arguments))
        if not self._soon_rung:
            self._soon_rung = True
            write(self._mouth, b"!")  # noqa: F821

    def serve(self):
        start_thread(self._read_all)  # noqa: F821
        self.hub.start(self._call_back)
        while not self._ended or self._running:
            try:
                self.hub.wait_readable(self._ear)
                read(self._ear, READ_SIZE)  # noqa: F821
                # What is put there from now on wakes this anew.
                self._soon_rung = False
                while self._soon:
                    function, arguments = self._soon.popleft()
                    function(*arguments)
            except KeyboardInterrupt:  # it was meant for what runs
                self._interrupt_greenlets()
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # noqa: F821
        except KeyboardInterrupt:
            pass

    def _run_beside(self, task):
        if task[1].get("beside"):
            # The parts of farexec itself that are executed so know of threads only.
            Gateway._run_beside(self, task)  # noqa: F821
        else:
            self.call_soon(self._start, task)

    def _start(self, task):
        self._greenlets[task[0].id] = self.hub.start(self._execute_and_forget, (task,))

    def _execute_and_forget(self, task):
        try:
            self._execute(task, False)
        finally:
            self._greenlets.pop(task[0].id, None)

    def _read_all(self):
        with self._reading:
            while not self._ended:
                self._read_some()
        self._watch_end()

    def _interrupt(self):
        self.call_soon(self._interrupt_greenlets)
        sleep(LET_GO)  # noqa: F821
        if not self._interrupted:
            Gateway._interrupt(self)  # noqa: F821

    def _interrupt_greenlets(self):
        self._interrupted = True
        for greenlet in list(self._greenlets.values()):
            self.hub.interrupt(greenlet)

    def _in_main_thread(self):
        return get_ident() == self._main_thread  # noqa: F821

    def _new_bell(self):
        return GreenBell(self) if self._in_main_thread() else Gateway._new_bell(self)  # noqa: F821

    def _strand(self):
        return self.hub.get_ident() if self._in_main_thread() else Gateway._strand(self)  # noqa: F821

    def _wait(self, ready, stream, timeout):
        if not self._in_main_thread():
            return Gateway._wait(self, ready, stream, timeout)  # noqa: F821
        if ready():
            return True
        deadline = None if timeout is None else clock() + timeout  # noqa: F821
        bell, left = GreenBell(self), timeout
        stream.bells.append(bell)
        try:
            while not ready():
                if left is not None and left <= 0:
                    return False
                bell.wait(left)
                if deadline is not None:
                    left = deadline - clock()  # noqa: F821
            return True
        finally:
            stream.bells.remove(bell)

    def _forget(self):
        Gateway._forget(self)  # noqa: F821
        self._soon.clear()
        self._soon_rung = True


class GreenModel(ExecModel):  # noqa: F821
    """What `gateway.execmodel` offers to user code."""

    def __init__(self, backend, hub):
        ExecModel.__init__(self, backend)  # noqa: F821
        self._hub = hub
        self.get_ident, self.sleep, self.start = hub.get_ident, hub.sleep, hub.start

    def __getattr__(self, name):
        if name in ("queue", "subprocess", "socket"):
            return self._hub.module(name)
        if name in ("Lock", "RLock", "Event"):
            return getattr(self._hub, name)
        raise AttributeError(name)
