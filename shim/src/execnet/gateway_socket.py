"""What users import from ``execnet.gateway_socket``."""

from farexec import Gateway, HostNotFound, XSpec

from .multi import Group

__all__ = ["Gateway", "Group", "HostNotFound", "XSpec"]
