"""farexec runs Python anywhere: it starts interpreters, installs nothing there, and lets code at both ends talk over channels.

>>> import farexec
>>> gateway = farexec.makegateway()
>>> channel = gateway.remote_exec("channel.send(channel.receive() + 1)")
>>> channel.send(41)
>>> channel.receive()
42
"""

from ._debugger import breakpoint
from ._errors import (
    AuthenticationFailed,
    DataFormatError,
    DumpError,
    Frame,
    HostNotFound,
    HostUnreachable,
    InterpreterNotFound,
    JournalError,
    LoadError,
    RemoteError,
    RSyncError,
    StartError,
    TimeoutError,
    WorkersDied,
)
from ._execmodel import ExecModel, get_execmodel
from ._executor import Executor
from ._gateway import Gateway
from ._group import Group, MultiChannel, default_group, makegateway
from ._native import Channel, ReceiveQueue, __version__, dumps, loads
from ._progress import Progress, WorkerProgress
from ._rsync import RSync
from ._serialize import dump, load
from ._spec import XSpec
from .codecs import Types

__all__ = [
    "AuthenticationFailed",
    "Channel",
    "DataFormatError",
    "DumpError",
    "ExecModel",
    "Executor",
    "Frame",
    "Gateway",
    "Group",
    "HostNotFound",
    "HostUnreachable",
    "InterpreterNotFound",
    "JournalError",
    "LoadError",
    "MultiChannel",
    "Progress",
    "RSync",
    "RSyncError",
    "ReceiveQueue",
    "RemoteError",
    "StartError",
    "TimeoutError",
    "Types",
    "WorkerProgress",
    "WorkersDied",
    "XSpec",
    "__version__",
    "breakpoint",
    "default_group",
    "dump",
    "dumps",
    "get_execmodel",
    "load",
    "loads",
    "makegateway",
    "set_execmodel",
]

Channel.RemoteError, Channel.TimeoutError = RemoteError, TimeoutError

set_execmodel = default_group.set_execmodel
