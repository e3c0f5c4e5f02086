"""What users import from ``execnet.gateway_bootstrap``."""

from farexec import HostNotFound, XSpec

__all__ = ["HostNotFound", "XSpec"]
