"""XSpec: the text that says where and how a worker starts, as an object with attributes."""

from __future__ import annotations

from typing import Any

from . import _native


class XSpec:
    """Where and how a worker starts: ``key=value//key=value``.

    A key without a value is True, ``env:NAME=value`` sets a variable. Attributes give the values, None for keys that are not
    there, and can be set; a spec prints, compares and hashes as the text it was made from.

    >>> spec = XSpec("popen//chdir=/tmp//env:LANG=C")
    >>> spec.popen, spec.chdir, spec.env, spec.id
    (True, '/tmp', {'LANG': 'C'}, None)
    >>> spec
    <XSpec 'popen//chdir=/tmp//env:LANG=C'>

    :raises ValueError: the text is no spec; the error names the part that is wrong.
    """

    env: dict[str, str]

    def __init__(self, string: str) -> None:
        self._spec = string
        self.env = {}
        for key, value in _native.parse_spec(string):
            if key.startswith("env:"):
                self.env[key[4:]] = value or ""
            else:
                setattr(self, key, True if value is None else value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return None

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"<XSpec {self._spec!r}>"

    def __str__(self) -> str:
        return self._spec

    def __eq__(self, other: object) -> bool:
        return isinstance(other, XSpec) and self._spec == other._spec

    def __hash__(self) -> int:
        return hash(self._spec)

    def _samefilesystem(self) -> bool:
        """Whether the worker sees this machine's files, from this process's directory."""
        return bool(self.popen) and not self.chdir

    def _current(self) -> str:
        """The text of what the attributes say now."""
        parts = []
        for key, value in self.__dict__.items():
            if key.startswith("_") or key == "env" or value is None or value is False:
                continue
            parts.append(key if value is True else f"{key}={value}")
        parts.extend(f"env:{name}={value}" for name, value in self.env.items())
        return "//".join(parts) or "popen"
