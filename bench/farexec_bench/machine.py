"""What the figures were measured on: the machine, and the state of the sources."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""

BUILT = ROOT / (os.environ.get("CARGO_TARGET_DIR") or "target")
"""Where cargo puts what it builds."""


def describe() -> dict[str, str]:
    """The machine in words, without its name."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": processor(),
        "processors": str(usable),
        "memory": memory(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def busy() -> str | None:
    """A warning if other work runs on the machine."""
    try:
        load = os.getloadavg()[0]
    except OSError:
        return None
    if load < 0.5:
        return None
    return f"the machine was not idle at the start: a load of {load:.1f}"


def processor_to_pin() -> int | None:
    """The processor for pinned rows; None where the system cannot pin."""
    return min(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else None


def unpinned() -> str | None:
    """A warning where rows that should be pinned cannot be."""
    return "this system cannot pin processes: no row is pinned" if processor_to_pin() is None else None


def processor() -> str:
    """The processor's model."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def memory() -> str:
    """The memory, in GiB."""
    try:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return "unknown"
    return f"{size / 2**30:.0f} GiB"


def revision() -> str | None:
    """The commit that is checked out, and whether there are changes on it."""
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],
            cwd=ROOT, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip()
