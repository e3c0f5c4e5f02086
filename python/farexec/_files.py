"""File-like objects over channels, as ``channel.makefile`` returns them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._native import Channel


class ChannelFile:
    """What both kinds of file over a channel share."""

    def __init__(self, channel: Channel, proxyclose: bool = False) -> None:
        self.channel = channel
        self._proxyclose = proxyclose

    def isatty(self) -> bool:
        """A channel is no terminal."""
        return False

    def close(self) -> None:
        """Closes the channel, if the file was made with ``proxyclose``."""
        if self._proxyclose:
            self.channel.close()

    def __repr__(self) -> str:
        state = "closed" if self.channel.isclosed() else "open"
        return f"<ChannelFile {self.channel.id} {state}>"


class ChannelFileWrite(ChannelFile):
    """Sends what is written to it."""

    def __init__(self, channel: Channel, proxyclose: bool = True) -> None:
        super().__init__(channel, proxyclose)

    def write(self, out: Any) -> None:
        """Sends `out` as one item."""
        self.channel.send(out)

    def writelines(self, lines: Iterable[Any]) -> None:
        """Sends each line as one item."""
        for line in lines:
            self.channel.send(line)

    def flush(self) -> None:
        """Nothing is held back."""


class ChannelFileRead(ChannelFile):
    """Reads text or bytes that arrive as items."""

    def __init__(self, channel: Channel, proxyclose: bool = False) -> None:
        super().__init__(channel, proxyclose)
        self._buffer: Any = None  # takes the type of what arrives

    def read(self, n: int) -> Any:
        """Returns `n` characters or bytes; fewer only at the end."""
        while (self._buffer is None or len(self._buffer) < n) and self._fill():
            pass
        return self._take(n)

    def readline(self) -> Any:
        """Returns the next line with its newline; what is left at the end; then an empty string."""
        searched = 0
        while True:
            if self._buffer is not None:
                end = self._buffer.find(b"\n" if isinstance(self._buffer, bytes) else "\n", searched) + 1
                if end:
                    return self._take(end)
                searched = len(self._buffer)
            if not self._fill():
                return self._take(searched)

    def __iter__(self) -> Iterator[Any]:
        while line := self.readline():
            yield line

    def _fill(self) -> bool:
        try:
            data = self.channel.receive()
        except EOFError:
            return False
        self._buffer = data if self._buffer is None else self._buffer + data
        return True

    def _take(self, n: int) -> Any:
        if self._buffer is None:
            return ""
        data, self._buffer = self._buffer[:n], self._buffer[n:]
        return data


def make(channel: Channel, mode: str, proxyclose: bool) -> ChannelFileWrite | ChannelFileRead:
    """The file of this mode.

    :raises ValueError: a mode that is neither ``"r"`` nor ``"w"``.
    """
    if mode == "w":
        return ChannelFileWrite(channel, proxyclose)
    if mode == "r":
        return ChannelFileRead(channel, proxyclose)
    raise ValueError(f"mode {mode!r} not available")
