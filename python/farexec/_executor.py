"""`Executor`: the workers of a group behind the interface of :mod:`concurrent.futures`.

Calls wait here until a worker has room for them. One thread for each executor hands them over, and gives their futures what came of them.
"""

from __future__ import annotations

import builtins
import concurrent.futures
import itertools
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from . import _native
from ._errors import RemoteError
from ._group import Group
from ._source import Source, called
from ._spec import XSpec

_log = logging.getLogger("farexec")


class Executor(concurrent.futures.Executor):
    """An executor whose calls are done by workers anywhere: whatever takes a :class:`concurrent.futures.Executor` can use them.

    >>> import farexec
    >>> def area(width, height):
    ...     return width * height
    >>> with farexec.Executor(2) as executor:
    ...     executor.submit(area, 6, height=7).result()
    ...     list(executor.map(abs, [-1, 2]))
    42
    [1, 2]

    :param max_workers: How many workers are started from `spec`; the number of processors if None.
    :param spec: Where and how they start.
    :param group: A group whose gateways are used instead. They go on when the executor is shut down; those that join the group later
        are used as well. Workers of the executor's own end with it.
    :param initializer: A function that every worker calls before anything else, and `initargs` its arguments. If it raises, the
        executor is broken.
    :param retries: How often a call is given to another worker after the one that was at it died; then its future has a
        :class:`WorkersDied`. A worker that died is replaced by another from the same spec.
    :param timeout: Seconds that one call may take, before its worker is ended and replaced, and its future has a :class:`TimeoutError`.
    :param prefetch: How many calls a worker has at a time; by default as many as it does in some milliseconds, at least two. A future
        whose call a worker has cannot be cancelled. With 1, that is the one that it is at.
    :raises ValueError: There is no worker in that, or the spec is wrong.
    :raises StartError: A worker could not be started.

    A function is one that uses nothing from around it, which is sent as text, or one that workers can import: a built-in one, or its name
    as ``module:name``. Arguments and results are plain data, as channels carry it.

    What a function raises arrives as a :class:`RemoteError`. If it was of a built-in type, it is an exception of that type as well,
    so that ``except ZeroDivisionError:`` does what it says; but it has only the text, none of the arguments. (Types whose constructor wants
    more than a text, and those that end an iteration, arrive as :class:`RemoteError` alone.)

    The executor is broken, and every future that is not done has a :class:`concurrent.futures.BrokenExecutor`, if the initializer raises,
    or if no worker is left and none can be started.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        spec: str | XSpec = "popen",
        group: Group | None = None,
        initializer: Callable[..., object] | str | None = None,
        initargs: Iterable[Any] = (),
        retries: int = 3,
        timeout: float | None = None,
        prefetch: int | None = None,
    ) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if group is not None and max_workers is not None:
            raise ValueError("max_workers goes with spec, not with group: a group has the workers that it has")
        if retries < 0 or (prefetch is not None and prefetch < 1):
            raise ValueError(f"retries is 0 or more, and prefetch 1 or more, not {retries} and {prefetch}")
        if initializer is not None and not callable(initializer) and not isinstance(initializer, str):
            raise TypeError("initializer must be a callable, or the name of one as module:name")
        initial = None if initializer is None else (called(initializer), tuple(initargs))
        own = Group([str(spec)] * (max_workers or os.cpu_count() or 1)) if group is None else None
        served = own or group
        assert served is not None
        tasks = _native.Tasks(served._native, served, initial, retries, timeout, prefetch)
        self._work = _Work(tasks, own)
        self._functions: weakref.WeakKeyDictionary[Callable[..., object], dict[str, Any]] = weakref.WeakKeyDictionary()
        # Whoever forgets it without a shutdown() is done with it all the same.
        self._forgotten = weakref.finalize(self, self._work.close)
        self._forgotten.atexit = False
        _watch_the_end(self._work)
        self._work.thread.start()

    def submit(self, fn: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        """Has a worker call a function, and returns the future of its result.

        :param fn: A function that uses nothing from around it, or one that workers can import; or the name of such a one, as
            ``module:name``.
        :raises ValueError: The function would not work alone.
        :raises RuntimeError: The executor is shut down, or broken.
        """
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._work.add(future, (self._described(fn), args, kwargs))
        return future

    def _described(self, function: Callable[..., Any] | str) -> dict[str, Any]:
        if isinstance(function, str):
            return _described(function)
        try:
            known = self._functions.get(function)
        except TypeError:  # it has no weak references, as built-in methods have none, or no hash
            return _described(function)
        if known is None:
            known = self._functions[function] = _described(function)
        return known

    def map(
        self,
        fn: Callable[..., Any] | str,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Returns an iterator over the results of a function for each item, in their order; see :meth:`submit`.

        For long or endless inputs there is :meth:`Group.map`.

        :param timeout: Seconds from now until which a result has to be there when it is asked for.
        :param chunksize: Of no effect: a worker is given as many calls at a time as are good for it.
        :param buffersize: How many calls may be submitted whose results were not asked for; by default all are at once.
        :raises TimeoutError: When a result is asked for, and comes too late.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        deadline = None if timeout is None else time.monotonic() + timeout
        rest = zip(*iterables, strict=False)
        futures = deque(self.submit(fn, *arguments) for arguments in itertools.islice(rest, buffersize))
        # An executor that nobody has any more ends, also while its results are still wanted.
        submit = None if buffersize is None else self.submit

        def results() -> Iterator[Any]:
            try:
                while futures:
                    result = _take(futures, None if deadline is None else deadline - time.monotonic())
                    if submit is not None:
                        futures.extend(submit(fn, *arguments) for arguments in itertools.islice(rest, 1))
                    yield result
                    del result  # which is not ours to keep
            finally:
                for future in futures:
                    future.cancel()

        return results()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more calls; those that were submitted are done all the same.

        :param wait: Whether to return only when they are, and workers of the executor's own have ended.
        :param cancel_futures: Whether those that no worker has are cancelled.
        """
        self._work.close(cancel_futures)
        if wait and self._work.is_here():
            self._work.thread.join()

    @property
    def _broken(self) -> str | bool:
        return str(self._work.broken) if self._work.broken else False


class _Work:
    """What an executor and its thread share. It knows nothing of the executor, so that this can be forgotten."""

    def __init__(self, tasks: _native.Tasks, own: Group | None) -> None:
        self._tasks = tasks
        self._own = own
        self._lock = threading.Lock()
        self._waiting: deque[tuple[concurrent.futures.Future[Any], tuple[dict[str, Any], tuple[Any, ...], dict[str, Any]]]] = deque()
        self._closed: str | None = None
        self._cancels = False
        self._process = os.getpid()
        self.broken: concurrent.futures.BrokenExecutor | None = None
        self.thread = threading.Thread(target=self._run, name="farexec-executor")

    def is_here(self) -> bool:
        """Whether this is not the child of a fork, which has no part in it."""
        return self._process == os.getpid()

    def add(self, future: concurrent.futures.Future[Any], call: tuple[dict[str, Any], tuple[Any, ...], dict[str, Any]]) -> None:
        if not self.is_here():
            raise RuntimeError("cannot schedule new futures in a forked child: the executor is its parent's")
        with self._lock:
            if self.broken:
                raise _broken(self.broken.__cause__)
            if self._closed:
                raise RuntimeError(f"cannot schedule new futures after {self._closed}")
            self._waiting.append((future, call))
        self._tasks.nudge()

    def close(self, cancel: bool = False, after: str = "shutdown") -> None:
        if not self.is_here():
            return
        with self._lock:
            self._closed = self._closed or after
            self._cancels = self._cancels or cancel
        self._tasks.nudge()

    def _run(self) -> None:
        under_way: dict[int, concurrent.futures.Future[Any]] = {}
        try:
            numbers = itertools.count()
            while self._fill(under_way, numbers):
                for number, result, error in self._tasks.wait():
                    _settle(under_way.pop(number), result, error)
                    del result, error  # the future has them
        except Exception as error:
            self._break(error, under_way)
        finally:
            if self._own is not None:
                self._own.__exit__()

    def _fill(self, under_way: dict[int, concurrent.futures.Future[Any]], numbers: Iterator[int]) -> bool:
        """Hands over what workers have room for. Returns whether there is anything left to do, or may be."""
        room = self._tasks.room()
        while room:
            with self._lock:
                if not self._waiting:
                    break
                future, call = self._waiting.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                self._tasks.put(call)
            except Exception as error:
                future.set_exception(error)
            else:
                under_way[next(numbers)] = future
                room -= 1
        with self._lock:
            cancelled = [future for future, _ in self._waiting] if self._cancels else []
            if self._cancels:
                self._waiting.clear()
            is_left = bool(self._waiting or under_way or not self._closed)
        for future in cancelled:
            future.cancel()
            future.set_running_or_notify_cancel()  # tells those who wait for it
        return is_left

    def _break(self, error: Exception, under_way: dict[int, concurrent.futures.Future[Any]]) -> None:
        broken = _broken(error)
        _log.critical("%s", broken)
        with self._lock:
            self.broken = broken
            waiting = [future for future, _ in self._waiting]
            self._waiting.clear()
        for future in under_way.values():
            future.set_exception(_broken(error))
        for future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(_broken(error))


def _broken(error: BaseException | None) -> concurrent.futures.BrokenExecutor:
    broken = concurrent.futures.BrokenExecutor(f"the executor has no workers any more: {error}")
    broken.__cause__ = error
    return broken


def _described(function: Callable[..., Any] | str) -> dict[str, Any]:
    """A function as workers take it with each call."""
    source = called(function)
    if isinstance(source, Source):
        return {"source": source.text, "file": source.file, "line": source.line, "call": source.call}
    module, name = source
    return {"module": module, "call": name}


def _settle(future: concurrent.futures.Future[Any], result: Any, error: BaseException | None) -> None:
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(_of_its_type(error) if type(error) is RemoteError else error)


def _of_its_type(error: RemoteError) -> RemoteError:
    """The same error, which is also one of the built-in type that was raised, if there is one."""
    kind = getattr(builtins, error.type_name, None)
    if not isinstance(kind, type) or not issubclass(kind, Exception) or issubclass(kind, (StopIteration, StopAsyncIteration)):
        return error
    both = type(kind.__name__, (RemoteError, kind), {"__module__": "farexec"})
    try:
        combined: RemoteError = both(error.formatted, error.type_name, error.message, error.frames)
    except TypeError:  # its constructor wants more than a text
        return error
    return combined


def _take(futures: deque[concurrent.futures.Future[Any]], timeout: float | None) -> Any:
    """The result of the first, of which nothing is kept."""
    future = futures.popleft()
    try:
        return future.result(timeout)
    finally:
        future.cancel()
        del future


_works: weakref.WeakSet[_Work] = weakref.WeakSet()
_watcher: threading.Thread | None = None
_watcher_lock = threading.Lock()


def _watch_the_end(work: _Work) -> None:
    """Has an executor that was not shut down do what is left when the program ends, and then end."""
    global _watcher
    with _watcher_lock:
        _works.add(work)
        # After a fork the child has no such thread.
        if _watcher is None or not _watcher.is_alive():
            _watcher = threading.Thread(target=_close_at_the_end, name="farexec-executors")
            _watcher.start()


def _close_at_the_end() -> None:
    threading.main_thread().join()
    for work in list(_works):
        work.close(after="interpreter shutdown")
