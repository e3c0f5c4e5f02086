"""What users import from ``execnet.gateway``."""

from farexec import Channel, Gateway, XSpec
from farexec._gateway import RemoteStatus, RInfo

from .multi import Group

__all__ = ["Channel", "Gateway", "Group", "RInfo", "RemoteStatus", "XSpec"]
