"""Groups and multichannels, as Python sees them: gateways that are made, addressed and ended together."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, overload

from . import _native
from ._compiled import know_own_interpreter
from ._execmodel import ExecModel, GreenModel, get_execmodel
from ._gateway import Gateway, default_python
from ._green import Greenlets
from ._progress import Progress, total_of, watcher_of
from ._source import called
from ._spec import XSpec

if TYPE_CHECKING:
    from ._native import Channel, ReceiveQueue

NO_ENDMARKER: Any = _native.NO_ENDMARKER
"""What stands for no endmarker, so that any object can be one."""

_log = logging.getLogger("farexec")


def _print_line(gateway: str, stream: str, line: str) -> None:
    file = sys.stdout if stream == "stdout" else sys.stderr
    if file is not None:
        print(f"[{gateway}] {line}", file=file, flush=True)


class Group:
    """Gateways that are made, addressed and ended together.

    >>> import farexec
    >>> group = farexec.Group(["popen"] * 2)
    >>> group
    <Group ['gw0', 'gw1']>
    >>> sorted(group.remote_exec("channel.send(21 * 2)").receive_each())
    [42, 42]
    >>> group.terminate(timeout=1)
    >>> group
    <Group []>

    :param xspecs: A spec for each gateway to make at once; they start together. None, or an empty one, is :attr:`defaultspec`.
    :param execmodel: How workers execute, unless their spec says otherwise, and how this side waits: ``thread``, ``main_thread_only``,
        ``gevent`` or ``eventlet``.

    :param trace: A file to which is written what the workers do and when, as a trace that https://ui.perfetto.dev shows; what was in it
        before is gone. ``docs/OBSERVING.md`` has what is in it. ``FAREXEC_TRACE`` asks for the same for all groups that have none of
        their own.
    :raises OSError: The trace cannot be written.

    As a context manager it terminates its gateways at the end, with a timeout of a second, or of the longest ``grace=`` of their specs; and
    so it does when the program ends.
    """

    defaultspec = "popen"
    """The spec of a gateway that is made without one."""

    _gateway_class: type[Gateway] = Gateway

    def __init__(
        self,
        xspecs: Iterable[str | XSpec | None] = (),
        execmodel: str | ExecModel = "thread",
        trace: str | os.PathLike[str] | None = None,
    ) -> None:
        self._native = _native.Group()
        self.set_output()
        self._gateways: list[Gateway] = []
        if trace is not None:
            self._native.set_trace(os.fspath(trace))
        self.set_execmodel(execmodel)
        atexit.register(self._cleanup_atexit)
        xspecs = list(xspecs)
        if xspecs:
            self._make(xspecs)

    @property
    def execmodel(self) -> ExecModel:
        """How this side executes."""
        return self._execmodel

    @property
    def remote_execmodel(self) -> ExecModel:
        """How workers execute, unless their spec says otherwise."""
        name = self._native.execmodel
        return self._execmodel if name == self._execmodel.backend else get_execmodel(name)

    def set_execmodel(self, execmodel: str | ExecModel, remote_execmodel: str | ExecModel | None = None) -> None:
        """Sets how this side and workers execute; only as long as there are no gateways.

        :raises ValueError: There are gateways already, or there is no such model.
        :raises ImportError: This side is to be gevent or eventlet, which is not installed.

        >>> import farexec
        >>> group = farexec.Group()
        >>> group.set_execmodel("thread", "main_thread_only")
        >>> group.execmodel, group.remote_execmodel
        (<ExecModel 'thread'>, <ExecModel 'main_thread_only'>)
        """
        if self._gateways:
            raise ValueError(f"can not set execution models if gateways have been created already: {self._gateways}")
        local = get_execmodel(execmodel)
        remote = local.backend if remote_execmodel is None else str(getattr(remote_execmodel, "backend", remote_execmodel))
        self._native.set_execmodel(remote)
        self._native.set_hub(Greenlets(local.library) if isinstance(local, GreenModel) else None)
        self._execmodel = local

    def set_output(self, function: Callable[[str, str, str], object] | None = None) -> None:
        """Has a function called with each line that workers print to outputs which their specs forward.

        That is what ``stdout=forward`` and ``stderr=forward`` in a spec ask for: whatever the interpreter, libraries or started
        processes write there comes here in whole lines.

        :param function: Called as ``function(gateway_id, stream, line)`` in the thread of all callbacks; `stream` is ``"stdout"`` or
            ``"stderr"``, and the line comes without its end. None, as at the beginning: lines are printed to :data:`sys.stdout` and
            :data:`sys.stderr`, behind the id of their gateway.

        >>> import farexec
        >>> lines = []
        >>> with farexec.Group(["popen//stdout=forward"]) as group:
        ...     group.set_output(lambda *line: lines.append(line))
        ...     group.remote_exec("print(6 * 7)").waitclose()
        >>> lines
        [('gw0', 'stdout', '42')]
        """
        self._native.set_output(_print_line if function is None else function)

    def makegateway(self, spec: str | XSpec | None = None) -> Gateway:
        """Makes a gateway, and waits until its worker answers.

        :param spec: Where and how the worker starts; :attr:`defaultspec` if None.
        :raises ValueError: The spec is wrong; the text names the part.
        :raises StartError: The worker could not be started; the text says why.

        >>> import farexec
        >>> gateway = farexec.makegateway("popen//env:COLOUR=green")
        >>> gateway.remote_exec("import os; channel.send(os.environ['COLOUR'])").receive()
        'green'
        >>> gateway.exit()
        """
        return self._make([spec])[0]

    def _make(self, xspecs: Iterable[str | XSpec | None]) -> list[Gateway]:
        specs = self._prepare(xspecs)
        return self._started(specs, self._native.start([spec._current() for spec in specs], default_python()))

    def _prepare(self, xspecs: Iterable[str | XSpec | None]) -> list[XSpec]:
        """What there is to do before workers start."""
        specs = [spec if isinstance(spec, XSpec) else XSpec(spec or self.defaultspec) for spec in xspecs]
        for spec in specs:
            self._complete(spec)
        know_own_interpreter()
        return specs

    def _started(self, specs: list[XSpec], natives: list[_native.Gateway]) -> list[Gateway]:
        """Takes in the gateways that were made from `specs`."""
        made = [self._gateway_class(native, spec, self) for native, spec in zip(natives, specs, strict=True)]
        self._gateways.extend(made)
        for gateway in made:
            _log.debug("gateway %s has started: %s, pid %s", gateway.id, gateway.spec, gateway.pid)
        return made

    def _complete(self, spec: XSpec) -> None:
        """Adds to a spec what the group says where it says nothing."""
        self.allocate_id(spec)
        if spec.execmodel is None:
            spec.execmodel = self._native.execmodel

    def allocate_id(self, spec: XSpec) -> None:
        """Gives `spec` an id that no gateway of this group has, unless it has one.

        :raises ValueError: It has one that is taken.
        """
        if spec.id is None:
            spec.id = self._native.allocate_id()
        elif spec.id in self:
            raise ValueError(f"already have gateway with id {spec.id!r}")

    def remote_exec(self, source: str | types.ModuleType | Callable[..., object], **kwargs: Any) -> MultiChannel:
        """Executes the same code at every gateway; see :meth:`Gateway.remote_exec`."""
        return MultiChannel([gateway.remote_exec(source, **kwargs) for gateway in self])

    def map(
        self,
        function: Callable[..., Any] | str,
        *iterables: Iterable[Any],
        ordered: bool = True,
        retries: int = 3,
        timeout: float | None = None,
        prefetch: int | None = None,
        on_error: Literal["raise", "return"] = "raise",
        replace: bool = True,
        max_pending: int | None = None,
        journal: str | os.PathLike[str] | None = None,
        progress: bool | Callable[[Progress], object] | None = None,
    ) -> _native.Map:
        """Has the workers call a function with each item, and returns an iterator over the results.

        Nothing happens but while the iterator is asked for the next result; items are taken as workers have room for them, so there may
        be any number. An item whose worker dies is given to another one, and its result comes once. Gateways that are made
        meanwhile join in.

        >>> import farexec
        >>> def square(x):
        ...     return x * x
        >>> with farexec.Group(["popen"] * 2) as group:
        ...     list(group.map(square, range(5)))
        ...     sorted(group.map("math:pow", [2, 3], [10, 2], ordered=False))
        [0, 1, 4, 9, 16]
        [9.0, 1024.0]

        :param function: A function that uses nothing from around it, which is sent as text; or the name of one that workers can
            import, as ``module:name``.
        :param iterables: One for each argument.
        :param ordered: Whether results come in the order of their items, or as they are ready.
        :param retries: How often an item is given to another worker after the one that was at it died.
        :param timeout: Seconds that one item may take, before its worker is ended and replaced.
        :param prefetch: How many items a worker has at a time; by default as many as it does in some milliseconds, at least two.
        :param on_error: ``"raise"`` what went wrong with an item, after which the next result can still be asked for; or
            ``"return"`` it as the result.
        :param replace: Whether a worker that died is replaced by another from the same spec.
        :param max_pending: How many items may be under way at most, from being taken until their result is: those that workers have, and
            those whose results nobody took, for instance because an earlier one is still missing. 65,536 if None.
        :param journal: A file that keeps the results: if this program is killed, the same call takes up what the last one left in it, and
            only what is missing is executed. Items that failed are tried again. What is kept when, and what the file looks like, is in
            ``docs/JOURNAL.md``.
        :param progress: A function that is called with a :class:`Progress`, in the thread that asks for results, when there is news: ten
            times a second at most, and in the end. True: a bar, drawn by ``tqdm``. The iterator's attribute ``progress`` tells the same
            at any time.
        :raises RemoteError: The function raised, or cannot be used.
        :raises WorkersDied: Every worker that was at an item died.
        :raises TimeoutError: An item took too long.
        :raises DumpError: An item cannot be sent.
        :raises StartError: No worker is left, and none could be started.
        :raises JournalError: The journal is of another run, is in use, or cannot be read or written.
        :raises ImportError: A bar is wanted, and ``tqdm`` is not installed.
        :raises ValueError: The function would not work alone; or there is no iterable.
        """
        if not iterables:
            raise ValueError("map() needs at least one iterable")
        if retries < 0:
            raise ValueError(f"retries is 0 or more, not {retries}")
        for name, number in (("prefetch", prefetch), ("max_pending", max_pending)):
            if number is not None and number < 1:
                raise ValueError(f"{name} is 1 or more, not {number}")
        if on_error not in ("raise", "return"):
            raise ValueError(f'on_error is "raise" or "return", not {on_error!r}')
        star = len(iterables) > 1
        return _native.Map(
            self._native,
            self,
            called(function),
            zip(*iterables, strict=False) if star else iterables[0],
            ordered=ordered,
            star=star,
            retries=retries,
            timeout=timeout,
            prefetch=prefetch,
            replace=replace,
            returns_errors=on_error == "return",
            max_pending=max_pending,
            journal=None if journal is None else os.fspath(journal),
            total=total_of(iterables),
            watcher=watcher_of(progress),
        )

    def _adopt(self, old: str, native: _native.Gateway, spec: str, name: str) -> None:
        """A worker of a map that died, `old`, was replaced by another one."""
        xspec = XSpec(spec)
        xspec.id = name
        self._gateways = [member for member in self._gateways if member.id != old]
        self._gateways.append(self._gateway_class(native, xspec, self))

    def terminate(self, timeout: float | None = None) -> None:
        """Ends all gateways: asks their workers to end, and waits for all of them.

        :param timeout: Seconds after which workers that go on are killed. Then whatever a worker started ends with it. None: wait as
            long as it takes, and kill nothing.

        What had to be killed is reported as a warning of the :mod:`logging` logger ``farexec``; as information only, if it was the end of
        the program or of a ``with`` that ended the group.
        """
        self._terminate(timeout, logging.WARNING)

    def _terminate(self, timeout: float | None, level: int) -> None:
        self._ended(dict(self._native.terminate(timeout)), timeout, level)

    def _ended(self, gone: dict[str, str | None], timeout: float | None, level: int) -> None:
        """Takes in that gateways are gone, and why if they did not end by themselves."""
        for reason in gone.values():
            if reason is not None:
                _log.log(level, "%s (it had %s seconds: see timeout= of terminate(), and grace= of specs)", reason, timeout)
        self._gateways = [gateway for gateway in self._gateways if gateway.id not in gone]

    def _unregister(self, gateway: Gateway) -> None:
        """Shows a gateway no more, which is still the group's to end."""
        self._gateways = [member for member in self._gateways if member is not gateway]

    def _cleanup_atexit(self) -> None:
        self._terminate(self._native.exit_timeout, logging.INFO)

    def __getitem__(self, key: int | str | Gateway) -> Gateway:
        if isinstance(key, int):
            return self._gateways[key]
        for gateway in self._gateways:
            if gateway is key or gateway.id == key:
                return gateway
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return any(gateway is key or gateway.id == key for gateway in self._gateways)

    def __len__(self) -> int:
        return len(self._gateways)

    def __iter__(self) -> Iterator[Gateway]:
        return iter(list(self._gateways))

    def __repr__(self) -> str:
        return f"<Group {[gateway.id for gateway in self._gateways]!r}>"

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *_: object) -> None:
        self._terminate(self._native.exit_timeout, logging.INFO)


class MultiChannel:
    """Several channels as one, in a fixed order.

    >>> import farexec
    >>> with farexec.Group(["popen"] * 2) as group:
    ...     channels = group.remote_exec("channel.send(channel.receive() + 1)")
    ...     channels.send_each(1)
    ...     channels.receive_each()
    ...     channels.waitclose()
    [2, 2]
    """

    def __init__(self, channels: Iterable[Channel]) -> None:
        self._channels = list(channels)
        self._queue: ReceiveQueue | None = None

    def __len__(self) -> int:
        return len(self._channels)

    def __iter__(self) -> Iterator[Channel]:
        return iter(self._channels)

    def __getitem__(self, key: int) -> Channel:
        return self._channels[key]

    def __contains__(self, channel: object) -> bool:
        return any(channel is member for member in self._channels)

    def send_each(self, item: object) -> None:
        """Sends the same item on each channel."""
        for channel in self._channels:
            channel.send(item)

    @overload
    def receive_each(self, withchannel: Literal[False] = ...) -> list[Any]: ...

    @overload
    def receive_each(self, withchannel: Literal[True]) -> list[tuple[Channel, Any]]: ...

    def receive_each(self, withchannel: bool = False) -> list[tuple[Channel, Any]] | list[Any]:
        """Receives one item from each channel, in their order; with `withchannel`, as (channel, item)."""
        if withchannel:
            return [(channel, channel.receive()) for channel in self._channels]
        return [channel.receive() for channel in self._channels]

    def make_receive_queue(self, endmarker: object = NO_ENDMARKER) -> ReceiveQueue:
        """Returns a queue of everything the channels receive, as (channel, item).

        :param endmarker: An object that the queue gets, once for each channel, when that channel ends for whatever reason, a killed
            worker included. Without one, the end of a channel does not show in the queue.
        """
        if self._queue is None:
            self._queue = _native.ReceiveQueue(self._channels, endmarker)
        return self._queue

    def waitclose(self) -> None:
        """Waits until no channel can receive any more; then raises the first of the errors that :meth:`Channel.waitclose` raised."""
        first: BaseException | None = None
        for channel in self._channels:
            try:
                channel.waitclose()
            except (channel.RemoteError, EOFError) as error:
                first = first or error
        if first is not None:
            raise first


default_group = Group()
"""The group of :func:`makegateway`."""

makegateway = default_group.makegateway
