"""A function of one's own called at the far end: what a remote procedure call costs."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..casework import Figures, Run, Unavailable, case
from .starting import check


def nothing() -> None:
    """What is called."""


@case("call")
def call(run: Run) -> Figures:
    """Gateway.call of a function that does nothing, and its result."""
    with run.group() as group:
        gateway = group[0]
        if not hasattr(gateway, "call"):
            raise Unavailable(f"{run.library} has no Gateway.call")
        return sample(run, lambda: gateway.call(nothing))


@case("call", "Pyro5")
def pyro_call(run: Run) -> Figures:
    """A method of an object that a Pyro5 daemon has, in a process of its own."""
    import Pyro5.api

    @Pyro5.api.expose
    class Server:
        def nothing(self) -> None:
            pass

    def serve(there: Any) -> None:
        with Pyro5.api.Daemon(host="127.0.0.1") as daemon:
            there.send(str(daemon.register(Server)))
            daemon.requestLoop()

    with serving(serve) as address, Pyro5.api.Proxy(address) as proxy:
        return sample(run, lambda: proxy.nothing())


@case("call", "rpyc")
def rpyc_call(run: Run) -> Figures:
    """A method of an rpyc service, in a process of its own."""
    import rpyc
    from rpyc.core.stream import SocketStream
    from rpyc.utils.factory import connect_stream

    class Server(rpyc.Service):
        def exposed_nothing(self) -> None:
            pass

    def serve(there: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            there.send(listener.getsockname()[1])
            accepted, _ = listener.accept()
        connect_stream(SocketStream(accepted), Server).serve_all()

    with serving(serve) as port:
        connection = rpyc.connect("127.0.0.1", port)
        try:
            return sample(run, lambda: connection.root.nothing())
        finally:
            connection.close()


def sample(run: Run, once: Callable[[], Any]) -> Figures:
    """Calls `size` times in a sample, each time as one writes it."""

    def batch() -> None:
        for _ in range(run.size):
            once()

    check(once() is None, "the call returns what the function does")
    return run.sample(batch, per=run.size)


@contextmanager
def serving(serve: Callable[[Any], None]) -> Iterator[Any]:
    """Where a server listens that runs in a fork; it is ended by a signal, for not every server ends itself."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there,), daemon=True)
    process.start()
    there.close()
    try:
        yield here.recv()
    finally:
        process.kill()
        process.join()
