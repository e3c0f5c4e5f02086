"""Execution models: how code runs beside other code, and the primitives that belong to that."""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Callable
from typing import IO, Any

NAMES = ("thread", "main_thread_only", "gevent", "eventlet")


class ExecModel:
    """How code runs beside other code, with the primitives that work under it. Workers have the same as ``channel.gateway.execmodel``.

    >>> model = get_execmodel("thread")
    >>> model.backend
    'thread'
    >>> with model.Lock():
    ...     model.Event().is_set()
    False
    """

    backend: str
    """The model's name."""

    def __init__(self, backend: str) -> None:
        self.backend = backend

    def __repr__(self) -> str:
        return f"<ExecModel {self.backend!r}>"

    @property
    def queue(self) -> Any:
        """The module ``queue``."""
        return importlib.import_module("queue")

    @property
    def subprocess(self) -> Any:
        """The module ``subprocess``."""
        return importlib.import_module("subprocess")

    @property
    def socket(self) -> Any:
        """The module ``socket``."""
        return importlib.import_module("socket")

    def get_ident(self) -> int:
        """Returns what tells the current strand of execution from others."""
        return threading.get_ident()

    def sleep(self, delay: float) -> None:
        """Lets others run for `delay` seconds."""
        time.sleep(delay)

    def start(self, function: Callable[..., object], args: tuple[Any, ...] = ()) -> None:
        """Runs `function` beside the caller."""
        threading.Thread(target=function, args=args, daemon=True).start()

    def fdopen(self, fd: int, mode: str, bufsize: int = 1, closefd: bool = True) -> IO[Any]:
        """Returns a file object on a descriptor."""
        return os.fdopen(fd, mode, bufsize, encoding="utf-8" if "b" not in mode else None, closefd=closefd)

    def Lock(self) -> Any:
        """Returns a new lock."""
        return threading.Lock()

    def RLock(self) -> Any:
        """Returns a new lock that its holder can take again."""
        return threading.RLock()

    def Event(self) -> Any:
        """Returns a new event."""
        return threading.Event()


class GreenModel(ExecModel):
    """The execution models gevent and eventlet: everything runs in greenlets, and what waits lets others run.

    :raises ImportError: The library is not installed.
    """

    def __init__(self, backend: str) -> None:
        super().__init__(backend)
        from . import hubs

        try:
            self.library: Any = hubs.hub_of(backend)  # type: ignore[no-untyped-call]
        except ImportError as error:
            text = f"the execution model {backend} needs the package {backend}: {error}"
            raise ImportError(text, name=error.name) from error

    @property
    def queue(self) -> Any:
        return self.library.module("queue")

    @property
    def subprocess(self) -> Any:
        return self.library.module("subprocess")

    @property
    def socket(self) -> Any:
        return self.library.module("socket")

    def get_ident(self) -> int:
        return int(self.library.get_ident())

    def sleep(self, delay: float) -> None:
        self.library.sleep(delay)

    def start(self, function: Callable[..., object], args: tuple[Any, ...] = ()) -> None:
        self.library.start(function, args)

    def Lock(self) -> Any:
        return self.library.Lock()

    def RLock(self) -> Any:
        return self.library.RLock()

    def Event(self) -> Any:
        return self.library.Event()


def get_execmodel(backend: str | ExecModel) -> ExecModel:
    """Returns the execution model of this name.

    :raises ValueError: There is none.
    :raises ImportError: It is gevent or eventlet, which is not installed.

    >>> get_execmodel("main_thread_only")
    <ExecModel 'main_thread_only'>
    """
    if isinstance(backend, ExecModel):
        return backend
    if backend not in NAMES:
        raise ValueError(f"unknown execmodel {backend!r}: take one of {', '.join(NAMES)}")
    return GreenModel(backend) if backend in ("gevent", "eventlet") else ExecModel(backend)
