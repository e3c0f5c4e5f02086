"""What tests ask about processes."""

import time
from collections.abc import Callable


def is_running(pid: int) -> bool:
    """Whether there is such a process, zombies aside: whoever adopted those may be slow."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return not stat.read().rpartition(")")[2].lstrip().startswith("Z")
    except OSError:
        return False


def wait_until_gone(*pids: int, seconds: float = 10.0) -> None:
    """Waits until none of these processes runs; fails if one goes on."""
    deadline = time.monotonic() + seconds
    while running := [pid for pid in pids if is_running(pid)]:
        assert time.monotonic() < deadline, f"still running after {seconds} seconds: {running}"
        time.sleep(0.01)


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Waits until something holds; fails if it takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} seconds"
        time.sleep(0.01)
