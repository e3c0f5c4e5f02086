"""What users import from ``execnet.xspec``."""

from farexec import XSpec

__all__ = ["XSpec"]
