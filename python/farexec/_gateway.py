"""Gateways, as Python sees them: the connection to one worker."""

from __future__ import annotations

import os
import sys
import types
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

from . import _native
from ._codecs import give
from ._debugger import TERMINAL
from ._errors import TimeoutError
from ._imports import Answers
from ._source import called, source_of
from ._spec import XSpec

if TYPE_CHECKING:
    from ._execmodel import ExecModel
    from ._group import Group
    from ._native import Channel


class Gateway:
    """The connection to one worker. Gateways are made by :meth:`Group.makegateway`, or :func:`makegateway`.

    >>> import farexec
    >>> with farexec.Group(["popen"]) as group:
    ...     group[0].remote_exec("channel.send(6 * 7)").receive()
    42
    """

    def __init__(self, native: _native.Gateway, spec: XSpec, group: Group) -> None:
        self._native = native
        self.spec = spec
        self._group = weakref.ref(group)
        self._execmodel = group.execmodel
        self._cache_rinfo: RInfo | None = None
        self._max_pending: int | None = None
        self._functions: weakref.WeakKeyDictionary[Callable[..., Any], _native.RemoteFunction] = weakref.WeakKeyDictionary()
        self._named: dict[str, _native.RemoteFunction] = {}
        self._imports = Answers()
        self._breakpoints: list[Any] | None = None

    @property
    def id(self) -> str:
        """The gateway's name in its group."""
        return self._native.id

    @property
    def pid(self) -> int | None:
        """The process id of the worker."""
        return self._native.pid

    @property
    def returncode(self) -> int | None:
        """How the worker's process exited, negative for a signal; None while it runs."""
        return self._native.returncode

    @property
    def end_reason(self) -> str | None:
        """Why the gateway ended, with the worker's last lines on standard error; None while it has not."""
        return self._native.end_reason

    @property
    def alive(self) -> bool:
        """Whether the gateway has not ended."""
        return self._native.end_reason is None

    @property
    def execmodel(self) -> ExecModel:
        """How this side executes."""
        return self._execmodel

    @property
    def max_pending(self) -> int | None:
        """How many items that were sent may wait for their receiver, at either end of each channel; None, as at the beginning: any number.

        Set, it holds for the channels that :meth:`remote_exec` and :meth:`newchannel` make from now on. Who sends waits while the other
        end has so many that it did not take: by ``receive``, from a receive queue, or in a callback that has returned. So two ends
        that send to each other without receiving wait for ever. A worker of an older version bounds nothing.

        :raises ValueError: Set to less than 1, or to more than 4,294,967,295.

        >>> import farexec
        >>> with farexec.Group(["popen"]) as group:
        ...     group[0].max_pending = 10
        ...     channel = group[0].remote_exec("for number in range(1000): channel.send(number)")
        ...     sum(channel)
        499500
        """
        return self._max_pending

    @max_pending.setter
    def max_pending(self, items: int | None) -> None:
        if items is not None and not 1 <= items < 1 << 32:
            raise ValueError(f"max_pending is a number of items from 1 to {(1 << 32) - 1}, or None, not {items}")
        self._max_pending = items

    @property
    def remoteaddress(self) -> str:
        """Where the worker is: the arguments of ``ssh``, or the address of the socket server.

        :raises AttributeError: Other transports have no address.
        """
        for key in ("ssh", "vagrant_ssh", "socket"):
            address = getattr(self.spec, key)
            if isinstance(address, str):
                return address
        if self._native.address is not None:
            return self._native.address
        raise AttributeError(f"{self!r} has no remoteaddress")

    def remote_exec(self, source: str | types.ModuleType | Callable[..., object], **kwargs: Any) -> Channel:
        """Executes code at the worker, and returns the channel that connects to it.

        :param source: Text (what it is indented by as a whole is taken off), a module, or a function that uses nothing from around
            it and whose first parameter is ``channel``. In text and modules, ``channel`` is a global name, and
            ``__name__ == "__channelexec__"``.
        :param kwargs: Arguments of the function.
        :raises ValueError: The function would not work alone.
        :raises DumpError: An argument cannot be sent.
        :raises OSError: The gateway has ended.
        """
        text, file, line, call = source_of(source, kwargs)
        return self._native.execute(self, text, file, line, call, kwargs, max_pending=self.max_pending)

    def call(self, function: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Any:
        """Calls a function at the worker, and returns its result.

        A call costs little more than a round trip: the function is sent with the first one only, and what carries calls stays open. Calls
        from several threads run at the same time, in threads of the worker; what the first of them began in its main thread, if that was
        free, stays there (with the model ``main_thread_only``, calls leave the main thread to :meth:`remote_exec`).

        :param function: A function that uses nothing from around it, which is sent as text; or the name of one that the worker can
            import, as ``module:name``.
        :param args: Its arguments; plain data, as channels carry it, with no channels in it.
        :param kwargs: Its arguments with names.
        :raises RemoteError: The function raised, or cannot be used there.
        :raises EOFError: The worker ended before it had answered.
        :raises DumpError: An argument cannot be sent.
        :raises ValueError: The function would not work alone.
        :raises OSError: The gateway has ended.

        >>> import farexec
        >>> def area(width, height):
        ...     return width * height
        >>> with farexec.Group(["popen"]) as group:
        ...     group[0].call(area, 6, height=7)
        ...     group[0].call("os.path:join", "a", "b")
        42
        'a/b'
        """
        return self._remote(function)(*args, **kwargs)

    def _remote(self, function: Callable[..., Any] | str) -> _native.RemoteFunction:
        remote = self._named.get(function) if isinstance(function, str) else self._functions.get(function)
        if remote is None:
            remote = self._native.function(called(function))
            if isinstance(function, str):
                self._named[function] = remote
            else:
                self._functions[function] = remote
        return remote

    def allow_imports(self, *names: str) -> None:
        """Has the worker import modules from here that it misses: their text is sent when it is asked for.

        Only what the worker cannot find itself comes from here, and only from the modules that are named, with all that is in them. Modules
        that are compiled, and files beside them, are not sent.

        :param names: Modules and packages at the top, such as ``"package"``. Further calls allow further ones.
        :raises ValueError: There is no such module here, or it has no text.
        :raises RemoteError: The worker has no thread for it (``threads=none``).

        >>> import farexec, pathlib, sys, tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = pathlib.Path(folder.name, "shapes.py").write_text("def area(a, b): return a * b")
        >>> sys.path.append(folder.name)
        >>> with farexec.Group(["popen"]) as group:
        ...     group[0].allow_imports("shapes")
        ...     group[0].call("shapes:area", 6, 7)
        42
        >>> sys.path.remove(folder.name)
        >>> folder.cleanup()
        """
        self._imports.allow(self, names)

    def allow_breakpoints(self, input: TextIO | None = None, output: TextIO | None = None) -> None:
        """Has :func:`breakpoint` in the worker's code start :mod:`pdb` at this program's terminal.

        Whatever stops there waits for its turn: one breakpoint after the other is answered, each until its program runs on. Everything it
        says stands behind the name of its gateway. Meanwhile this program goes on, and so does its timeout, if it waits with one. Where
        nothing is entered any more (the end of `input`), workers run on.

        A further call changes only where it is read and written.

        :param input: Where lines are read, instead of from standard input.
        :param output: Where `pdb` writes, instead of to standard output.
        :raises RemoteError: The worker has no thread for it (``threads=none``).

        >>> import farexec, io
        >>> def answer(channel):
        ...     total = 6 * 7
        ...     breakpoint()
        ...     channel.send(total)
        >>> with farexec.Group(["popen"]) as group:
        ...     group[0].allow_breakpoints(io.StringIO("total += 1"), io.StringIO())
        ...     group[0].remote_exec(answer).receive()
        43
        """
        TERMINAL.serve(self, input, output)

    def newchannel(self) -> Channel:
        """Returns a new channel, which the far end gets to know by an item that has it in it.

        >>> import farexec
        >>> with farexec.Group(["popen"]) as group:
        ...     execution, results = group[0].remote_exec("channel.receive().send('by another way')"), group[0].newchannel()
        ...     execution.send(results)
        ...     results.receive()
        'by another way'
        """
        return self._native.newchannel(self, self.max_pending)

    def remote_status(self) -> RemoteStatus:
        """Asks the worker how it is doing; answered even while it computes.

        >>> import farexec
        >>> with farexec.Group(["popen"]) as group:
        ...     channel = group[0].remote_exec("channel.send('begun'); channel.receive()")
        ...     channel.receive(), group[0].remote_status().numexecuting
        ('begun', 1)
        """
        return RemoteStatus(**self._native.status())

    def _rinfo(self, update: bool = False) -> RInfo:
        """What is known of the worker's interpreter; with `update`, its working directory is asked for anew."""
        if self._cache_rinfo is None:
            self._cache_rinfo = RInfo(self._native.hello())
        if update:
            self._cache_rinfo.cwd = self._native.status()["cwd"]
        return self._cache_rinfo

    def reconfigure(self, py2str_as_py3str: bool = True, py3str_as_py2str: bool = False) -> None:
        """Says how strings of the other major version of Python are taken, on channels made from now on.

        :param py2str_as_py3str: Whether ``str`` from Python 2 arrives here as ``str`` (decoded as latin-1) and not as ``bytes``.
        :param py3str_as_py2str: Whether ``str`` from here arrives at a Python 2 worker as its ``str`` and not as ``unicode``.
        """
        self._native.reconfigure(py2str_as_py3str, py3str_as_py2str)

    def setcodec(self, codec: object) -> None:
        """Has the items of all channels that are made from now on go through a codec, at both ends.

        :param codec: ``"pickle"``: whatever :mod:`pickle` can carry, and then a worker can have code run here.
            ``"numpy"``: arrays of NumPy, which has to be there at both ends; what arrives can only be read, and ``copy()`` makes one
            to write to.
            A :class:`Types`: objects of the types that were added to it. Or a module with functions ``encode(item)``,
            which returns something that can be sent, and ``decode(item)``; it is sent as text, and imports what it needs itself.
            Arguments of :meth:`remote_exec` do not go through it.
        :raises TypeError: It is no codec.
        :raises ImportError: It is ``"numpy"``, and there is no NumPy here.
        :raises RemoteError: The worker cannot use it.

        >>> import decimal, farexec
        >>> types = farexec.Types()
        >>> types.add(decimal.Decimal)
        >>> with farexec.Group(["popen"]) as group:
        ...     group[0].setcodec(types)
        ...     channel = group[0].remote_exec("channel.send(channel.receive() * 2)")
        ...     channel.send(decimal.Decimal("1.5"))
        ...     channel.receive()
        Decimal('3.0')
        """
        self._native.set_codec(give(self, codec, None))

    def remote_init_threads(self, num: int | None = None) -> None:
        """Does nothing: workers start threads as they are needed. For programs that were written for old versions of execnet."""

    def hasreceiver(self) -> bool:
        """Whether the gateway can still receive."""
        return self.alive

    def exit(self) -> None:
        """Asks the worker to end, takes the gateway out of its group, and returns at once."""
        if (group := self._group()) is not None:
            group._unregister(self)
        self._native.exit()

    def join(self, timeout: float | None = None) -> None:
        """Waits until the gateway has ended, or `timeout` seconds."""
        self._native.join(timeout)

    def wait(self, timeout: float | None = None) -> int | None:
        """Waits until the gateway has ended, and returns its :attr:`returncode`.

        :raises TimeoutError: It goes on after `timeout` seconds.

        >>> import farexec
        >>> with farexec.Group(["popen"]) as group:
        ...     gateway = group[0]
        ...     gateway.exit()
        ...     gateway.wait(timeout=20), gateway.alive, gateway.end_reason is None
        (0, False, False)
        """
        if not self._native.join(timeout):
            raise TimeoutError(f"{self!r} goes on after {timeout} seconds")
        return self.returncode

    def __repr__(self) -> str:
        receiving = "receive-live" if self.alive else "not-receiving"
        channels = self._native.channel_count
        return f"<Gateway id={self.id!r} {receiving}, {self._execmodel.backend} model, {channels} active channels>"


class RInfo:
    """What is known of a worker's interpreter."""

    def __init__(self, hello: dict[str, Any]) -> None:
        version = tuple(hello["version"])
        self.executable: str = hello["executable"]
        self.version_info: tuple[Any, ...] = version + ("final", 0)[: max(0, 5 - len(version))]
        self.platform: str = hello["platform"]
        self.cwd: str = hello["cwd"]
        self.pid: int = hello["pid"]
        self.implementation: str = hello["implementation"]
        self.worker: str = hello["worker"]

    def __repr__(self) -> str:
        info = ", ".join(f"{key}={value}" for key, value in sorted(self.__dict__.items()))
        return f'<RInfo "{info}">'


class RemoteStatus:
    """How a worker is doing."""

    def __init__(self, channels: int, executing: int, queued: int, execmodel: str, cwd: str) -> None:
        self.numchannels = channels
        self.numexecuting = executing
        self.numqueued = queued
        self.execmodel = execmodel
        self.cwd = cwd

    def __repr__(self) -> str:
        return (
            f"<RInfo 'execmodel={self.execmodel}, numchannels={self.numchannels}, numexecuting={self.numexecuting}'>"
        )


def default_python() -> str:
    """The interpreter of a spec that names none: the one that runs this."""
    return sys.executable or os.fsdecode("python3")
