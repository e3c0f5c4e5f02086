"""The terminal of this program for breakpoints in workers: what answers debugger.py."""

from __future__ import annotations

import inspect
import os
import pdb
import queue
import sys
import threading
from typing import TYPE_CHECKING, Any, TextIO

from . import _native, debugger

if TYPE_CHECKING:
    from ._gateway import Gateway
    from ._native import Channel

_END = object()


class Terminal:
    """Where breakpoints talk to a person: one after the other, each until its program runs on."""

    def __init__(self) -> None:
        self._events: queue.Queue[tuple[_Session, Any]] = queue.Queue()
        self._lock = threading.Lock()
        self._is_started = False

    def serve(self, gateway: Gateway, input: TextIO | None, output: TextIO | None) -> None:
        """Has a worker's breakpoints come here; of one that is allowed them already, from now on between these."""
        if gateway._breakpoints is not None:
            gateway._breakpoints[1:] = input, output
            return
        text = inspect.getsource(debugger)
        channel = gateway._native.execute(gateway, text, "<farexec debugger>", 1, "serve", {}, beside=True)
        # As every channel has them, that of an event loop included.
        _native.Channel.receive(channel)
        with self._lock:
            if not self._is_started:
                self._is_started = True
                threading.Thread(target=self._work, name="farexec-breakpoints", daemon=True).start()

        # Without a handle here the channel would close.
        known = gateway._breakpoints = [channel, input, output]
        name = gateway.id

        def begin(talk: Any) -> None:
            if talk is not _END:
                session = _Session(talk, name, *known[1:])
                _native.Channel.setcallback(talk, lambda item: self._events.put((session, item)), endmarker=_END)

        _native.Channel.setcallback(channel, begin, endmarker=_END)

    def _work(self) -> None:
        present: _Session | None = None
        waiting: list[_Session] = []
        while True:
            session, item = self._events.get()
            if isinstance(item, str):
                session.texts.append(item)
            elif item is None:
                waiting.append(session)
            else:  # it runs on, or has ended
                session.show()
                if session is present:
                    present = None
            if present is None and waiting:
                present = waiting[0]
            if present is not None and present in waiting:
                waiting.remove(present)
                present.answer()


class _Session:
    """One breakpoint."""

    def __init__(self, talk: Channel, name: str, input: TextIO | None, output: TextIO | None) -> None:
        self._talk, self._name, self._input, self._output = talk, name, input, output
        self.texts: list[str] = []

    def show(self) -> None:
        """Shows what it has said, each line behind the name of its gateway."""
        text, self.texts = "".join(self.texts), []
        output = self._output or sys.stdout
        for line in text.splitlines(keepends=True):
            output.write(f"[{self._name}] {line}")
        output.flush()

    def answer(self) -> None:
        """Shows what it has said, and gives it the next line that is entered. Where nothing is entered any more, it runs on."""
        self.show()
        line = _entered_line() if self._input is None else self._input.readline()
        if not line:
            line = "continue\n"
            (self._output or sys.stdout).write("\n")
        try:
            _native.Channel.send(self._talk, line)
        except OSError:
            pass  # its worker has ended


def _entered_line() -> str:
    """A line of standard input. Not from `sys.stdin`: who waits in there at the end of the program has the interpreter abort."""
    line = bytearray()
    while not line.endswith(b"\n"):
        try:
            byte = os.read(0, 1)
        except OSError:  # it is closed
            byte = b""
        if not byte:
            break
        line += byte
    return line.decode(errors="replace")


TERMINAL = Terminal()


def breakpoint() -> None:
    """Stops here, and starts :mod:`pdb`: in a worker at the coordinator's terminal, if that has called
    :meth:`Gateway.allow_breakpoints`, and otherwise at this program's own.

    Where farexec is not installed, as at most far ends, the built-in :func:`breakpoint` does the same.
    """
    frame = sys._getframe(1)
    hook = sys.breakpointhook
    stop = getattr(hook, "stop_in", None)
    if stop is not None:
        stop(frame)
    else:
        pdb.Pdb().set_trace(frame)
