"""RSync, as Python sees it: trees of files to many workers."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import _native
from ._errors import RSyncError, RSyncFailure

if TYPE_CHECKING:
    from ._gateway import Gateway
    from ._native import Channel


class RSync:
    """Makes trees of files at workers what a tree here is: only what changed is sent, to all targets at once.

    What is compared is size and time of modification; what differs is compared by content, block by block. (Files of more than 64 KiB
    for a worker on this machine are copied by the system instead.) Permissions and times of files, and permissions of directories,
    become those of the source. Links stay links; one to an absolute path in the source leads to the same place in the destination.
    A file appears whole under its name or not at all. Owners, hard links, extended attributes, the times of directories and holes
    in files are not carried over.

    Meant to be subclassed: :meth:`filter` chooses what belongs to the tree.

    >>> import farexec, pathlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> source, there = pathlib.Path(folder.name, "source"), pathlib.Path(folder.name, "there")
    >>> source.mkdir()
    >>> _ = (source / "hello").write_text("world")
    >>> with farexec.Group(["popen"]) as group:
    ...     rsync = farexec.RSync(source, verbose=False)
    ...     rsync.add_target(group[0], there)
    ...     rsync.send()
    >>> (there / "hello").read_text()
    'world'
    >>> folder.cleanup()
    """

    def __init__(
        self,
        sourcedir: str | os.PathLike[str],
        callback: Callable[[str, int, Channel], object] | None = None,
        verbose: bool = True,
    ) -> None:
        """
        :param sourcedir: The directory, or the file, that is sent.
        :param callback: Called for each target as ``callback("list", bytes, channel)``, with the size of all that has to be done
            there, and then as ``callback("ack", bytes, channel)`` for each file that is in place.
        :param verbose: Whether each file is reported when it is sent.
        """
        self._sourcedir = os.fspath(sourcedir)
        self._verbose = verbose
        if callback is not None and not callable(callback):
            raise TypeError(f"the callback is {callback!r}, which cannot be called")
        self._callback = callback
        self._targets: list[tuple[Gateway, str, bool, Callable[[], object] | None]] = []
        self.failures: list[RSyncFailure] = []
        """What the last :meth:`send` left as it was."""

    def filter(self, path: str) -> bool:
        """Says whether `path`, which begins with the source's, belongs to the tree; of a directory, with all under it."""
        return True

    def add_target(
        self,
        gateway: Gateway,
        destdir: str | os.PathLike[str],
        finishedcallback: Callable[[], object] | None = None,
        delete: bool = False,
    ) -> None:
        """Adds a target for the next :meth:`send`.

        :param destdir: The path there, relative to the worker's working directory. Directories above it are made.
        :param finishedcallback: Called when the target has everything.
        :param delete: Whether what is there and not in the source is deleted.
        """
        self._targets.append((gateway, os.fsdecode(destdir), delete, finishedcallback))

    def send(self, raises: bool = True) -> None:
        """Sends the source to all targets, which are forgotten when that is done.

        The methods that a subclass overrides, and all callbacks, are called in this thread (in one of their own, in the execution models
        gevent and eventlet). What one of them raises ends everything
        and is raised here; a file that was not finished is as it was.

        :param raises: Whether it is an error if there is no target, or if a path could not be read or written. Such paths
            are in :attr:`failures` either way.
        :raises OSError: There is no target, or the source cannot be read; nothing was sent then.
        :raises ValueError: Something in the source is no file, no directory and no link; nothing was sent.
        :raises RSyncError: Some paths could not be read or written; all others were.
        """
        targets, self.failures = self._targets, []
        if not targets:
            if raises:
                raise OSError("there is no target to send to: add_target() comes before each send()")
            return

        def told(number: int, channel: Channel, what: str, path: str, size: int) -> None:
            gateway, _, _, finished = targets[number]
            if what == "send":
                self._report_send_file(gateway, path)
            elif what == "finish":
                if finished is not None:
                    finished()
            elif self._callback is not None:
                self._callback(what, size, channel)

        # What nobody wants to know is not told: that is cheaper.
        kind = type(self)
        reports = self._verbose or kind._report_send_file is not RSync._report_send_file
        is_told = reports or self._callback is not None or any(finished is not None for *_, finished in targets)
        wants = self.filter if kind.filter is not RSync.filter or "filter" in vars(self) else None
        natives = [(gateway._native, gateway, destination, delete) for gateway, destination, delete, _ in targets]
        try:
            _native.rsync(self._sourcedir, natives, wants, told if is_told else None)
        except RSyncError as error:
            self.failures = error.failures
            self._targets = []
            if raises:
                raise
        else:
            self._targets = []

    def _report_send_file(self, gateway: Gateway, modified_rel_path: str) -> None:
        """Says that a file is sent; a subclass may say it elsewhere."""
        if self._verbose:
            print(f"{gateway} <= {modified_rel_path}")
