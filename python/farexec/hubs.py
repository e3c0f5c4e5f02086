"""gevent and eventlet behind one interface: what both ends need for these two execution models.

Executed at workers too, so it runs wherever the libraries do, and uses nothing else of this package.
"""


class Late(BaseException):
    """What a wait is ended by when its time is up."""


class Gevent(object):
    """What gevent has."""

    def __init__(self):
        import gevent
        import gevent.event
        import gevent.lock
        import gevent.socket

        self._gevent = gevent
        self.Lock = gevent.lock.BoundedSemaphore
        self.RLock = gevent.lock.RLock
        self.Event = gevent.event.Event
        self.sleep = gevent.sleep

    def module(self, name):
        """Returns gevent's `queue`, `socket` or `subprocess`."""
        import importlib

        return importlib.import_module("gevent." + name)

    def get_ident(self):
        return id(self._gevent.getcurrent())

    def start(self, function, args=()):
        return self._gevent.spawn(function, *args)

    def semaphore(self):
        return self._gevent.lock.Semaphore(0)

    def interrupt(self, greenlet):
        greenlet.kill(KeyboardInterrupt, block=False)

    def wait_readable(self, descriptor, timeout=None, background=False):
        """Lets other greenlets run until there is something to read; returns whether there is. In the background: keeps no loop running."""
        watcher = self._gevent.get_hub().loop.io(descriptor, 1, ref=not background)
        try:
            self._gevent.socket.wait(watcher, timeout, Late())
            return True
        except Late:
            return False
        finally:
            watcher.close()


class Eventlet(object):
    """What eventlet has."""

    def __init__(self):
        import eventlet
        import eventlet.green.threading
        import eventlet.hubs
        import eventlet.semaphore

        self._eventlet = eventlet
        self.Lock = eventlet.semaphore.Semaphore
        self.RLock = eventlet.green.threading.RLock
        self.Event = eventlet.green.threading.Event
        self.sleep = eventlet.sleep

    def module(self, name):
        """Returns eventlet's `queue`, `socket` or `subprocess`."""
        import importlib

        return importlib.import_module(("eventlet." if name == "queue" else "eventlet.green.") + name)

    def get_ident(self):
        return id(self._eventlet.getcurrent())

    def start(self, function, args=()):
        return self._eventlet.spawn(function, *args)

    def semaphore(self):
        return self._eventlet.semaphore.Semaphore(0)

    def interrupt(self, greenlet):
        self._eventlet.hubs.get_hub().schedule_call_global(0, greenlet.throw, KeyboardInterrupt)

    def wait_readable(self, descriptor, timeout=None, background=False):
        """Lets other greenlets run until there is something to read; returns whether there is."""
        try:
            self._eventlet.hubs.trampoline(descriptor, read=True, timeout=timeout, timeout_exc=Late())
            return True
        except Late:
            return False


def hub_of(model):
    """Returns what stands for the library of an execution model.

    :raises ImportError: It is not installed.
    """
    return {"gevent": Gevent, "eventlet": Eventlet}[model]()
