"""Giving codecs to gateways and channels: at this side, and by executing codecs.py, at the worker."""

from __future__ import annotations

import inspect
import types
from typing import TYPE_CHECKING, Any

from . import _native, codecs
from ._errors import DumpError, LoadError

if TYPE_CHECKING:
    from ._gateway import Gateway
    from ._native import Channel

codecs.Codec.DumpError, codecs.Codec.LoadError = DumpError, LoadError  # type: ignore[assignment]


def give(gateway: Gateway, codec: object, target: Channel | None) -> Any:
    """Gives a codec to the worker, for one channel or for all that are made from now on; returns the one to use here.

    :raises TypeError: It is no codec.
    :raises ImportError: This side lacks what it needs.
    :raises RemoteError: The worker cannot use it.
    """
    kind, content, here = _parts(codec)
    if kind == "numpy" and gateway._native.hello()["implementation"] == "rust":
        return here  # whose own types are for items of this form
    text, arguments = inspect.getsource(codecs), {"kind": kind, "content": content, "target": None if target is None else target.id}
    channel = gateway._native.execute(gateway, text, "<farexec codecs>", 1, "install", arguments, beside=True)
    # Whatever the class of channels, this is the method that waits.
    _native.Channel.waitclose(channel)
    return here


def _parts(codec: object) -> tuple[str, Any, Any]:
    if codec == "pickle":
        return "pickle", None, codecs.Pickle()  # type: ignore[no-untyped-call]
    if codec == "numpy":
        return "numpy", None, codecs.Arrays()  # type: ignore[no-untyped-call]
    if isinstance(codec, codecs.Types):
        # As it is now: what is added later would be unknown there.
        return "types", codec.content, codecs.Types(codec.content)  # type: ignore[no-untyped-call]
    if isinstance(codec, types.ModuleType) and callable(getattr(codec, "encode", None)) and callable(getattr(codec, "decode", None)):
        return "own", {"text": inspect.getsource(codec), "file": inspect.getsourcefile(codec)}, codec
    raise TypeError(f'a codec is "pickle", "numpy", farexec.Types, or a module with functions encode and decode, not {codec!r}')
