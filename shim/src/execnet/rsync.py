"""What users import from ``execnet.rsync``."""

from farexec import RSync

__all__ = ["RSync"]
