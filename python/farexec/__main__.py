"""The command ``farexec``: ``python -m farexec``, and the console script of that name.

It is the same as the one that ``cargo install`` builds, but that workers on this machine run in this interpreter unless their spec says
otherwise.
"""

from __future__ import annotations

import signal
import sys

from . import _native
from ._compiled import know_own_interpreter
from ._gateway import default_python


def main() -> None:
    """Runs the command with the arguments of this process, and ends the process with its exit code."""
    # The command counts interrupts itself; Python's own handler would raise one more behind it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    know_own_interpreter()
    sys.exit(_native.command(["farexec", *sys.argv[1:]], default_python()))


if __name__ == "__main__":
    main()
