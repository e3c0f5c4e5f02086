"""farexec for asyncio: the same names, and what waits is a coroutine.

>>> import asyncio
>>> from farexec import aio
>>> async def main():
...     async with aio.Group(["popen"] * 2) as group:
...         channels = group.remote_exec("channel.send(channel.receive() + 1)")
...         await channels.send_each(41)
...         return await channels.receive_each()
>>> asyncio.run(main())
[42, 42]

Each class is that of the same name in :mod:`farexec`, with coroutines for the methods that wait; what does not wait (executing code,
closing a channel) is called as there. There are no timeouts among the arguments: a coroutine that is cancelled, by
:func:`asyncio.timeout` say, has taken and sent nothing. All waits of an event loop share one descriptor and need no threads; only what
starts, ends or sets up workers has one for as long as it lasts. An object belongs to whichever loop runs while it is awaited.
"""

# The methods that wait are coroutines here: that is what the classes are for.
# mypy: disable-error-code="override"

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TextIO, overload

from . import _gateway, _group, _native
from ._execmodel import ExecModel
from ._gateway import RemoteStatus, default_python
from ._progress import Progress
from ._spec import XSpec

__all__ = ["Channel", "Gateway", "Group", "MultiChannel", "ReceiveQueue"]

NO_ENDMARKER: Any = _native.NO_ENDMARKER

_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _native.Loop] = weakref.WeakKeyDictionary()


def _here() -> _native.Loop:
    """What collects the wakers of the running event loop."""
    loop = asyncio.get_running_loop()
    known = _loops.get(loop)
    if known is None:
        known = _loops[loop] = _native.Loop()
        loop.add_reader(known.fileno(), known.collect)
    return known


def _refuse(instead: str) -> NoReturn:
    raise TypeError(f"that would block the event loop: use `{instead}`")


class Channel(_native.Channel):
    """A two-way stream of items between code here and code at a worker; see :class:`farexec.Channel`.

    It is iterated over by ``async for``, which ends with the channel.

    >>> import asyncio
    >>> from farexec import aio
    >>> async def main():
    ...     async with aio.Group(["popen"]) as group:
    ...         channel = group[0].remote_exec("for item in channel: channel.send(item * 2)")
    ...         await channel.send(4)
    ...         print(await channel.receive())
    ...         try:
    ...             await asyncio.wait_for(channel.receive(), 0.01)
    ...         except asyncio.TimeoutError:
    ...             print("nothing came")
    >>> asyncio.run(main())
    8
    nothing came
    """

    __slots__ = ()

    async def send(self, item: object) -> None:
        """Sends one item, once the worker is no more than a mebibyte behind. It is on its way when this returns.

        :raises DumpError: A part of the item is of a type that cannot be sent.
        :raises OSError: The channel is closed.
        """
        while (room := _here().room(self)) is not None:
            await room
        super().send(item)

    async def receive(self) -> Any:
        """Returns the next item, once it is there.

        :raises RemoteError: The far end raised.
        :raises EOFError: No more items come.
        """
        return await _here().receive(self)

    async def waitclose(self) -> None:
        """Waits until no more items can arrive.

        :raises RemoteError: The far end closed the channel with an error that was not raised before.
        :raises EOFError: Its gateway ended without being asked to.
        """
        await _here().waitclose(self)

    async def setcodec(self, codec: object) -> None:
        """Has items go through a codec from now on, at both ends; see :meth:`Gateway.setcodec`."""
        await asyncio.to_thread(_native.Channel.setcodec, self, codec)

    def setcallback(self, callback: Callable[[Any], object], endmarker: object = NO_ENDMARKER) -> None:
        """Has `callback` called with each item, those that wait already as well, and once with `endmarker`, if given, at the end.

        It is called in the event loop. What it raises goes to the loop's exception handler.

        :raises OSError: A callback or a receive queue takes the items already.
        """
        loop = asyncio.get_running_loop()
        super().setcallback(lambda item: loop.call_soon_threadsafe(callback, item), endmarker)

    def __aiter__(self) -> Channel:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except EOFError:
            raise StopAsyncIteration from None

    def __iter__(self) -> NoReturn:
        _refuse("async for")

    def __next__(self) -> NoReturn:
        _refuse("await channel.receive()")

    def next(self) -> NoReturn:
        """Not for asyncio: use :meth:`receive`."""
        _refuse("await channel.receive()")

    def makefile(self, mode: str = "w", proxyclose: bool = False) -> NoReturn:
        """Not for asyncio, since files block: use :meth:`send` and :meth:`receive`."""
        _refuse("await channel.send(text)")


class Gateway(_gateway.Gateway):
    """The connection to one worker; see :class:`farexec.Gateway`. Gateways are made by :meth:`Group.makegateway`.

    >>> import asyncio
    >>> from farexec import aio
    >>> async def main():
    ...     async with aio.Group(["popen"]) as group:
    ...         print(await group[0].remote_exec("channel.send(6 * 7)").receive())
    ...         print((await group[0].remote_status()).execmodel)
    >>> asyncio.run(main())
    42
    thread
    """

    def __init__(self, native: _native.Gateway, spec: XSpec, group: Group) -> None:
        super().__init__(native, spec, group)
        native.set_channel_class(Channel)

    if TYPE_CHECKING:

        def remote_exec(self, source: Any, **kwargs: Any) -> Channel: ...

        def newchannel(self) -> Channel: ...

    async def call(self, function: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Any:
        """Calls a function at the worker, and returns its result; arguments and errors are those of :meth:`farexec.Gateway.call`.

        If that is cancelled, the worker goes on with the call, and its result is dropped.

        >>> import asyncio
        >>> from farexec import aio
        >>> async def main():
        ...     async with aio.Group(["popen"]) as group:
        ...         return await asyncio.gather(*(group[0].call("math:factorial", number) for number in range(5)))
        >>> asyncio.run(main())
        [1, 1, 2, 6, 24]
        """
        return await _here().call(self._remote(function), args, kwargs)

    async def allow_imports(self, *names: str) -> None:
        """Has the worker import modules from here that it misses; see :meth:`farexec.Gateway.allow_imports`."""
        await asyncio.to_thread(super().allow_imports, *names)

    async def allow_breakpoints(self, input: TextIO | None = None, output: TextIO | None = None) -> None:
        """Has :func:`breakpoint` in the worker's code talk to this program's terminal; see :meth:`farexec.Gateway.allow_breakpoints`."""
        await asyncio.to_thread(super().allow_breakpoints, input, output)

    async def remote_status(self) -> RemoteStatus:
        """Asks the worker how it is doing; answered even while it computes.

        :raises OSError: The gateway has ended.
        """
        return RemoteStatus(**await _here().status(self._native))

    async def setcodec(self, codec: object) -> None:
        """Has the items of all channels that are made from now on go through a codec, at both ends; see :meth:`farexec.Gateway.setcodec`.

        :raises TypeError: It is no codec.
        :raises ImportError: It is ``"numpy"``, and there is no NumPy here.
        :raises RemoteError: The worker cannot use it.
        """
        await asyncio.to_thread(super().setcodec, codec)

    async def join(self) -> None:
        """Waits until the gateway has ended."""
        await _here().join(self._native)

    async def wait(self) -> int | None:
        """Waits until the gateway has ended, and returns its :attr:`returncode`."""
        await self.join()
        return self.returncode


class Group(_group.Group):
    """Gateways that are made, addressed and ended together; see :class:`farexec.Group`.

    ``async with`` starts the workers of `xspecs`, all at once, and ends all workers of the group at its end.

    >>> import asyncio
    >>> from farexec import aio
    >>> async def main():
    ...     async with aio.Group() as group:
    ...         gateway = await group.makegateway("popen//id=one")
    ...         print(group)
    >>> asyncio.run(main())
    <Group ['one']>

    :param xspecs: A spec for each gateway to make.
    :param execmodel: How workers execute, unless their spec says otherwise.
    :param trace: A file for what the workers do and when; see :class:`farexec.Group`.
    :raises OSError: The trace cannot be written.
    """

    _gateway_class = Gateway

    def __init__(
        self,
        xspecs: Iterable[str | XSpec | None] = (),
        execmodel: str | ExecModel = "thread",
        trace: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(trace=trace)
        self.set_execmodel("thread", execmodel)
        self._wanted = list(xspecs)

    if TYPE_CHECKING:

        def __getitem__(self, key: int | str | _gateway.Gateway) -> Gateway: ...

        def __iter__(self) -> Iterator[Gateway]: ...

    async def makegateway(self, spec: str | XSpec | None = None) -> Gateway:
        """Makes a gateway, and waits until its worker answers; if that is cancelled, no worker is left.

        :raises ValueError: The spec is wrong; the text names the part.
        :raises StartError: The worker could not be started; the text says why.
        """
        return (await self._make([spec]))[0]

    async def _make(self, xspecs: Iterable[str | XSpec | None]) -> list[Gateway]:
        specs = self._prepare(xspecs)
        texts = [spec._current() for spec in specs]
        return self._started(specs, await _here().start(self._native, texts, default_python()))  # type: ignore[return-value]

    def remote_exec(self, source: Any, **kwargs: Any) -> MultiChannel:
        """Executes the same code at every gateway, without waiting; see :meth:`farexec.Gateway.remote_exec`."""
        return MultiChannel(gateway.remote_exec(source, **kwargs) for gateway in self)

    def map(self, function: Callable[..., Any] | str, *iterables: Iterable[Any], **options: Any) -> _Results:
        """Has the workers call a function with each item; returns an asynchronous iterator over the results.

        Arguments and errors are those of :meth:`farexec.Group.map`, and so is the iterator's attribute ``progress``. Items are taken in the
        event loop, as workers have room for them.

        >>> import asyncio
        >>> from farexec import aio
        >>> async def main():
        ...     async with aio.Group(["popen"] * 2) as group:
        ...         return [result async for result in group.map("math:factorial", range(5))]
        >>> asyncio.run(main())
        [1, 1, 2, 6, 24]
        """
        return _Results(super().map(function, *iterables, **options))

    async def terminate(self, timeout: float | None = None) -> None:
        """Ends all gateways: asks their workers to end, and waits for all of them; see :meth:`farexec.Group.terminate`.

        If that is cancelled, the workers were asked to end all the same.
        """
        await self._end(timeout, logging.WARNING)

    async def _end(self, timeout: float | None, level: int) -> None:
        self._ended(dict(await _here().terminate(self._native, timeout)), timeout, level)

    async def __aenter__(self) -> Group:
        wanted, self._wanted = self._wanted, []
        if wanted:
            await self._make(wanted)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end(self._native.exit_timeout, logging.INFO)

    def __enter__(self) -> NoReturn:
        _refuse("async with")


class MultiChannel(_group.MultiChannel):
    """Several channels as one, in a fixed order; see :class:`farexec.MultiChannel`.

    >>> import asyncio
    >>> from farexec import aio
    >>> async def main():
    ...     async with aio.Group(["popen"] * 2) as group:
    ...         channels = group.remote_exec("channel.send(channel.receive() + 1)")
    ...         await channels.send_each(1)
    ...         print(await channels.receive_each())
    ...         await channels.waitclose()
    >>> asyncio.run(main())
    [2, 2]
    """

    if TYPE_CHECKING:

        def __getitem__(self, key: int) -> Channel: ...

        def __iter__(self) -> Iterator[Channel]: ...

    async def send_each(self, item: object) -> None:
        """Sends the same item on each channel."""
        for channel in self:
            await channel.send(item)

    @overload
    async def receive_each(self, withchannel: Literal[False] = ...) -> list[Any]: ...

    @overload
    async def receive_each(self, withchannel: Literal[True]) -> list[tuple[Channel, Any]]: ...

    async def receive_each(self, withchannel: bool = False) -> list[tuple[Channel, Any]] | list[Any]:
        """Receives one item from each channel, in their order, once each has one; with `withchannel`, as (channel, item).

        :raises RemoteError: The far end of one raised; the items of the others stay where they are.
        """
        items = await _here().receive_each(self._channels)
        return list(zip(self, items, strict=True)) if withchannel else list(items)

    def make_receive_queue(self, endmarker: object = NO_ENDMARKER) -> ReceiveQueue:
        """Returns a queue of everything the channels receive; see :meth:`farexec.MultiChannel.make_receive_queue`."""
        return ReceiveQueue(super().make_receive_queue(endmarker))

    async def waitclose(self) -> None:
        """Waits until no channel can receive any more; then raises the first of the errors that :meth:`Channel.waitclose` raised."""
        first: BaseException | None = None
        for channel in self:
            try:
                await channel.waitclose()
            except (channel.RemoteError, EOFError) as error:
                first = first or error
        if first is not None:
            raise first


class ReceiveQueue:
    """A queue of everything that several channels receive, as (channel, item); made by :meth:`MultiChannel.make_receive_queue`.

    ``async for`` takes from it until every channel has ended.

    >>> import asyncio
    >>> from farexec import aio
    >>> async def main():
    ...     async with aio.Group(["popen"] * 2) as group:
    ...         queue = group.remote_exec("channel.send(21)").make_receive_queue()
    ...         print(sum([item async for channel, item in queue]))
    >>> asyncio.run(main())
    42
    """

    def __init__(self, queue: _native.ReceiveQueue) -> None:
        self._queue = queue

    async def get(self) -> tuple[Channel, Any]:
        """Returns the next (channel, item), once it is there."""
        pair: tuple[Channel, Any] = await _here().get(self._queue, True)
        return pair

    def get_nowait(self) -> tuple[Channel, Any]:
        """Returns the next (channel, item).

        :raises queue.Empty: It is not there.
        """
        return self._queue.get_nowait()  # type: ignore[return-value]

    def qsize(self) -> int:
        """The number of items that are there."""
        return self._queue.qsize()

    def empty(self) -> bool:
        """Whether no item is there just now."""
        return self._queue.empty()

    def __len__(self) -> int:
        return len(self._queue)

    def __aiter__(self) -> ReceiveQueue:
        return self

    async def __anext__(self) -> tuple[Channel, Any]:
        pair: tuple[Channel, Any] = await _here().get(self._queue, False)
        return pair

    def __repr__(self) -> str:
        return repr(self._queue)


class _Results:
    """The results of a map."""

    def __init__(self, results: _native.Map) -> None:
        self._results = results

    @property
    def progress(self) -> Progress:
        """How far it is: now; or at most a moment ago, while somebody waits for the next result."""
        return self._results.progress

    def __aiter__(self) -> _Results:
        return self

    async def __anext__(self) -> Any:
        return await _here().next(self._results)
