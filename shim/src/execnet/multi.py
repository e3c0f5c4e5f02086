"""What users import from ``execnet.multi``."""

from farexec import Channel, ExecModel, Group, MultiChannel, XSpec, default_group, get_execmodel, makegateway, set_execmodel
from farexec._group import NO_ENDMARKER as NO_ENDMARKER_WANTED

__all__ = [
    "NO_ENDMARKER_WANTED",
    "Channel",
    "ExecModel",
    "Group",
    "MultiChannel",
    "XSpec",
    "default_group",
    "get_execmodel",
    "makegateway",
    "set_execmodel",
]
