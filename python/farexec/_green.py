"""Greenlets at this side: what the extension module calls when a group's execution model is gevent or eventlet."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._native import Calls


class Greenlets:
    """How one group waits, and where its callbacks run.

    :param library: What stands for gevent or eventlet; see ``hubs.py``.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        self._is_served = False

    def wait_readable(self, descriptor: int, timeout: float | None) -> bool:
        """Lets other greenlets run until there is something to read, or `timeout` seconds; returns whether there is."""
        return bool(self._library.wait_readable(descriptor, timeout))

    def serve(self, calls: Calls) -> None:
        """Starts the greenlet that makes the calls of callbacks, unless it is started."""
        if not self._is_served:
            self._is_served = True
            self._library.start(self._make, (calls,))

    def _make(self, calls: Calls) -> None:
        while True:
            self._library.wait_readable(calls.fileno(), None, True)
            while (call := calls.take()) is not None:
                function, argument, done = call
                error: str | None = None
                try:
                    function(argument)
                except BaseException:
                    error = traceback.format_exc()
                finally:
                    done(error)
                # The greenlet must not keep what it served last.
                del call, function, argument, done
