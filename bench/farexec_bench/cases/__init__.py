"""The cases, by topic. What a library and its rivals do in a case is the same, and can be compared."""

from . import calls, messages, rivals, serialization, starting, suites, tasks, trees

__all__ = ["calls", "messages", "rivals", "serialization", "starting", "suites", "tasks", "trees"]
