"""Dumping to and loading from files, in the format that execnet stores data in."""

from __future__ import annotations

from typing import Any, BinaryIO

from ._native import dumps, loads


def dump(byteio: BinaryIO, obj: object) -> None:
    """Writes `obj` to a binary file.

    :raises DumpError: A part of it is of a type that cannot be stored.
    """
    byteio.write(dumps(obj))


def load(io: BinaryIO, py2str_as_py3str: bool = False, py3str_as_py2str: bool = False) -> Any:
    """Reads the rest of a binary file and returns the object in it; the arguments are those of :func:`loads`.

    :raises LoadError: The file holds something else.
    """
    return loads(io.read(), py2str_as_py3str, py3str_as_py2str)
