"""The cases, by topic. What a library and its rivals do in a case is the same, and can be compared."""

from . import messages, rivals, serialization, starting, tasks

__all__ = ["messages", "rivals", "serialization", "starting", "tasks"]
