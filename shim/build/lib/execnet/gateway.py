"""What users import from ``execnet.gateway``."""

from farexec import Channel, Gateway, Group, XSpec
from farexec._gateway import RemoteStatus, RInfo

__all__ = ["Channel", "Gateway", "Group", "RInfo", "RemoteStatus", "XSpec"]
