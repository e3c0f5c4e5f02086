"""What users import from ``execnet.gateway_socket``."""

from farexec import Gateway, Group, HostNotFound, XSpec

__all__ = ["Gateway", "Group", "HostNotFound", "XSpec"]
