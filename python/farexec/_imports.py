"""Giving modules of this side to workers that miss them: what answers importer.py."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Iterable
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING, Any

from . import importer

if TYPE_CHECKING:
    from ._gateway import Gateway
    from ._native import Channel

_END = object()


class Answers:
    """What a worker may import from here, and the channel over which it asks."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._channel: Channel | None = None

    def allow(self, gateway: Gateway, names: Iterable[str]) -> None:
        """Allows further modules, each with all that is in it.

        :raises ValueError: One of them cannot be sent; nothing is allowed then.
        """
        names = list(names)
        for name in names:
            if not name.isidentifier():
                raise ValueError(f"{name!r} is no name of a module at the top, such as `package`; what is in it is allowed with it")
            if _text_of(name) is None:
                raise ValueError(f"there is no module {name!r} here that has a text to send")
        self._names.update(names)
        arguments = {"names": names}
        channel = gateway._native.execute(gateway, inspect.getsource(importer), "<farexec importer>", 1, "serve", arguments, beside=True)
        channel.receive()
        if self._channel is None:
            self._channel = channel
            channel.setcallback(self._answer, endmarker=_END)

    def _answer(self, name: Any) -> None:
        if name is _END:
            self._channel = None
        elif self._channel is not None:
            self._channel.send(_text_of(name) if self._is_allowed(name) else None)

    def _is_allowed(self, name: object) -> bool:
        # Whoever asks may be anybody.
        return isinstance(name, str) and name.partition(".")[0] in self._names and all(part.isidentifier() for part in name.split("."))


def _text_of(name: str) -> tuple[bool, str, str] | None:
    """Whether a module is a package, its file, and its text; None if there is none. Nothing is imported for it."""
    spec = _find(name)
    if spec is None:
        return None
    is_package = spec.submodule_search_locations is not None
    if spec.origin is None:
        return (True, f"<namespace {name}>", "") if is_package else None
    try:
        source = getattr(spec.loader, "get_source", lambda _: None)(spec.name)
    except ImportError:  # it is compiled
        source = None
    return None if source is None else (is_package, spec.origin, source)


def _find(name: str) -> ModuleSpec | None:
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # a module that was put together by hand
        return None
    for index in range(len(rest)):
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(".".join([top, *rest[: index + 1]]), spec.submodule_search_locations)
    return spec
