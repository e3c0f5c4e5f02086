"""What farexec raises.

::

    Exception
    ├── DataFormatError          an object or some bytes do not fit the encodings
    │   ├── DumpError            an object cannot be sent
    │   └── LoadError            bytes that are no encoded object
    ├── JournalError             the journal of a map cannot be used
    ├── WorkersDied              every worker that was at an item of a map died
    ├── RemoteError              the code at the far end raised, or closed the channel with an error
    ├── StartError               a worker could not be started
    │   ├── InterpreterNotFound  there is no such interpreter (also a FileNotFoundError)
    │   └── HostNotFound         there is no such host, or none that can be reached
    │       ├── HostUnreachable       it does not answer
    │       └── AuthenticationFailed  it does not let us in, or is not who it should be
    └── OSError
        ├── RSyncError           some paths could not be read or written
        └── TimeoutError         nothing came in time (also the built-in TimeoutError)
"""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Iterable
from typing import NamedTuple


class DataFormatError(Exception):
    """An object or some bytes do not fit the encodings."""


class DumpError(DataFormatError):
    """An object cannot be sent; the text names its type and its place, as in ``data['x'][3]``.

    >>> import farexec
    >>> farexec.dumps({"a": [1, object()]})
    Traceback (most recent call last):
    farexec.DumpError: cannot encode data['a'][1]: object of type `object`
    """


class LoadError(DataFormatError):
    """Bytes that are no encoded object.

    >>> import farexec
    >>> try:
    ...     farexec.loads(b"no object")
    ... except farexec.LoadError:
    ...     print("it was not stored by dumps")
    it was not stored by dumps
    """


class Frame(NamedTuple):
    """One place that an exception came through."""

    file: str
    """The file, as the interpreter there names it."""
    line: int
    """The number of the line."""
    function: str
    """The function, or ``<module>``."""
    text: str
    """The text of the line; empty if it is not known."""


class RemoteError(Exception):
    """What went wrong at the far end. Its text is the far end's traceback.

    >>> import farexec
    >>> with farexec.Group(["popen"]) as group:
    ...     try:
    ...         group[0].remote_exec("import math; math.sqrt(-1)").waitclose()
    ...     except farexec.RemoteError as error:
    ...         print(error.type_name, error.message, error.frames[-1].line, sep=", ")
    ValueError, math domain error, 1
    """

    formatted: str
    """The whole report as text."""
    type_name: str
    """The type of the exception, for instance ``ZeroDivisionError``; empty if there was none."""
    message: str
    """The exception's own message."""
    frames: list[Frame]
    """Where it came through, outermost first."""
    notes: list[str]
    """What was added to the exception by ``add_note``."""
    cause: RemoteError | None
    """The exception that it was raised from, or while handling; the text tells of it, too."""

    def __init__(
        self,
        formatted: str,
        type_name: str = "",
        message: str = "",
        frames: Iterable[tuple[str, int, str, str]] | None = None,
        notes: Iterable[str] = (),
        cause: RemoteError | None = None,
    ) -> None:
        super().__init__(formatted)
        self.formatted = formatted
        self.type_name = type_name
        self.message = message
        self.frames = [Frame(*frame) for frame in frames or ()]
        self.notes = list(notes)
        self.cause = cause

    def __str__(self) -> str:
        return self.formatted

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {self.formatted}"

    def warn(self) -> None:
        """Says on standard error that nobody took care of it."""
        print(f"[{os.getpid()}] Warning: unhandled {self!r}", file=sys.stderr)


class WorkersDied(Exception):
    """There is no result for an item, because every worker that was at it died; the text says how many, and what ended the last one.

    >>> import farexec
    >>> with farexec.Group(["popen"]) as group:
    ...     try:
    ...         list(group.map("os:_exit", [3], retries=1))
    ...     except farexec.WorkersDied as error:
    ...         print(str(error).partition(";")[0])
    no result for item 0: 2 workers died at it
    """


class JournalError(Exception):
    """The journal of a map cannot be used: it is of another run, is in use, or cannot be read or written. The text says which.

    >>> import farexec
    >>> with farexec.Group(["popen"]) as group:
    ...     try:
    ...         list(group.map("math:sqrt", [4.0], journal="/no/such/folder/journal"))
    ...     except farexec.JournalError as error:
    ...         print("/no/such/folder" in str(error))
    True
    """


class StartError(Exception):
    """A worker could not be started; the text names the command tried and what came of it. Nothing of it is left running.

    >>> import farexec
    >>> try:
    ...     farexec.Group(["popen//python=no-such-python"])
    ... except farexec.InterpreterNotFound as error:
    ...     print(isinstance(error, farexec.StartError), "no-such-python" in str(error))
    True True
    """


class InterpreterNotFound(StartError, FileNotFoundError):
    """There is no such interpreter."""


class HostNotFound(StartError):
    """There is no such host, or none that can be reached: the text has the words of ``ssh``."""


class HostUnreachable(HostNotFound):
    """The host does not answer."""


class AuthenticationFailed(HostNotFound):
    """The host does not let us in, or is not who it should be."""


class TimeoutError(builtins.TimeoutError):
    """Nothing came in time. What comes later is still there for the next call.

    >>> import farexec
    >>> with farexec.Group(["popen"]) as group:
    ...     channel = group[0].remote_exec("channel.send(channel.receive())")
    ...     try:
    ...         channel.receive(timeout=0.001)
    ...     except farexec.TimeoutError:
    ...         channel.send("an answer")
    ...     channel.receive()
    'an answer'
    """


class RSyncFailure(NamedTuple):
    """One path that an :class:`~farexec.RSync` left as it was."""

    gateway: str | None
    """The id of the target's gateway; None if the path could not be read here."""
    path: str
    """Relative to the source; empty for the tree as a whole."""
    reason: str
    """What the system said."""


class RSyncError(OSError):
    """Some paths could not be read or written, and are as they were; everything else was done. :attr:`failures` has each of them.

    >>> import farexec, pathlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> source, there = pathlib.Path(folder.name, "source"), pathlib.Path(folder.name, "there")
    >>> source.mkdir()
    >>> _ = there.write_text("a file where a directory is to be"), (source / "a").write_text("a")
    >>> with farexec.Group(["popen"]) as group:
    ...     rsync = farexec.RSync(source, verbose=False)
    ...     rsync.add_target(group[0], there / "deeper")
    ...     try:
    ...         rsync.send()
    ...     except farexec.RSyncError as error:
    ...         print({failure.gateway for failure in error.failures})
    {'gw0'}
    >>> folder.cleanup()
    """

    def __init__(self, text: str, failures: Iterable[tuple[str | None, str, str]] = ()) -> None:
        super().__init__(text)
        self.failures = [RSyncFailure(*failure) for failure in failures]


for _error in (
    Frame,
    DataFormatError,
    DumpError,
    LoadError,
    RemoteError,
    StartError,
    InterpreterNotFound,
    HostNotFound,
    HostUnreachable,
    AuthenticationFailed,
    TimeoutError,
    RSyncError,
    RSyncFailure,
    JournalError,
    WorkersDied,
):
    _error.__module__ = "farexec"  # where users find it
