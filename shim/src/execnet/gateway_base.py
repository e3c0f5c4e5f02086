"""What users import from ``execnet.gateway_base``."""

from farexec import (
    Channel,
    DataFormatError,
    DumpError,
    ExecModel,
    LoadError,
    RemoteError,
    TimeoutError,
    dump,
    dumps,
    get_execmodel,
    load,
    loads,
)
from farexec import Gateway as BaseGateway
from farexec._files import ChannelFile, ChannelFileRead, ChannelFileWrite
from farexec._group import NO_ENDMARKER as NO_ENDMARKER_WANTED

DUMPFORMAT_VERSION = dumps(None)[:1]

__all__ = [
    "DUMPFORMAT_VERSION",
    "NO_ENDMARKER_WANTED",
    "BaseGateway",
    "Channel",
    "ChannelFile",
    "ChannelFileRead",
    "ChannelFileWrite",
    "DataFormatError",
    "DumpError",
    "ExecModel",
    "LoadError",
    "RemoteError",
    "TimeoutError",
    "dump",
    "dumps",
    "get_execmodel",
    "load",
    "loads",
]
