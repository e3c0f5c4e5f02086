"""The version of this distribution."""

from importlib.metadata import version as _version_of

version = __version__ = _version_of("execnet")
version_tuple = __version_tuple__ = (2, 99, 0)
