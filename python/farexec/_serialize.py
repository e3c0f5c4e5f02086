"""Dumping to and loading from files, in the format that execnet stores data in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from ._native import dumps, loads


def dump(byteio: BinaryIO, obj: object) -> None:
    """Writes `obj` to a binary file.

    :raises DumpError: A part of it is of a type that cannot be stored.

    >>> import io
    >>> stream = io.BytesIO()
    >>> dump(stream, {"x": (1, 2)})
    >>> loads(stream.getvalue())
    {'x': (1, 2)}
    """
    byteio.write(dumps(obj))


def load(io: BinaryIO, py2str_as_py3str: bool = False, py3str_as_py2str: bool = False) -> Any:
    """Reads one object from a binary file, and no byte after it; the other arguments are those of :func:`loads`.

    :raises LoadError: The file holds something else.

    >>> import io
    >>> stream = io.BytesIO()
    >>> dump(stream, [1])
    >>> dump(stream, "two")
    >>> _ = stream.seek(0)
    >>> load(stream), load(stream)
    ([1], 'two')
    """
    return loads(b"".join(_parts(io.read)), py2str_as_py3str, py3str_as_py2str)


def _parts(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Reads as far as an object goes; what it is, and whether it is whole, others find out."""
    yield read(1)  # the version
    while True:
        opcode = read(1)
        yield opcode
        if opcode in _COUNTED:
            count = read(4)
            yield count
            yield read(max(0, int.from_bytes(count, "big", signed=True)))
        elif opcode in _SIZES:
            yield read(_SIZES[opcode])
        else:  # the end, of the object or of the file
            return


# What follows an opcode: so many bytes, or four that count the bytes behind them.
_SIZES = {b"L": 0, b"R": 0, b"C": 0, b"J": 0, b"P": 0, b"F": 4, b"G": 4, b"K": 4, b"@": 4, b"O": 4, b"E": 4, b"B": 4, b"D": 8, b"T": 16}
_COUNTED = (b"H", b"I", b"A", b"N", b"S", b"M")
