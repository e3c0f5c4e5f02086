"""farexec under the name execnet."""

import os as _os

if "EXECNET_DEBUG" in _os.environ:
    _os.environ.setdefault("FAREXEC_DEBUG", _os.environ["EXECNET_DEBUG"])

from farexec import (
    Channel,
    DataFormatError,
    DumpError,
    Gateway,
    HostNotFound,
    LoadError,
    MultiChannel,
    RemoteError,
    RSync,
    TimeoutError,
    XSpec,
    dump,
    dumps,
    load,
    loads,
)

from . import gateway, gateway_base, gateway_bootstrap, gateway_io, gateway_socket, multi, rsync, xspec  # noqa: F401  as execnet has them
from ._version import version as __version__
from .multi import Group, default_group, makegateway, set_execmodel

__all__ = [
    "Channel",
    "DataFormatError",
    "DumpError",
    "Gateway",
    "Group",
    "HostNotFound",
    "LoadError",
    "MultiChannel",
    "RSync",
    "RemoteError",
    "TimeoutError",
    "XSpec",
    "__version__",
    "default_group",
    "dump",
    "dumps",
    "load",
    "loads",
    "makegateway",
    "set_execmodel",
]
