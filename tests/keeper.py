"""Runs a command, and ends it and everything it started when standard input ends: `python keeper.py COMMAND...`.

What the command starts stays below this process even if it daemonizes, since orphans are adopted here. So nothing outlives whoever holds
the other end of standard input, however that ends. Linux only.
"""

import ctypes
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from typing import NoReturn

PR_SET_CHILD_SUBREAPER = 36


def children(parent: int) -> list[int]:
    """The processes that this one started or adopted, zombies aside."""
    found = []
    try:
        for thread in os.listdir(f"/proc/{parent}/task"):
            found += map(int, pathlib.Path(f"/proc/{parent}/task/{thread}/children").read_text().split())
    except OSError:
        pass  # it has ended meanwhile
    return [pid for pid in found if not is_zombie(pid)]


def is_zombie(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def descendants(ancestor: int) -> list[int]:
    """The processes below this one, zombies aside."""
    found = children(ancestor)
    for pid in found:
        found += children(pid)
    return found


def kill_descendants() -> None:
    """Kills all there are now; what those start in the meantime is seen by the next call."""
    for pid in descendants(os.getpid()):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def end_with_standard_input(pid: int, patience: float = 3.0) -> None:
    """Waits for the end of standard input, then asks the process to end, and kills it with all others if it takes too long."""
    while os.read(0, 4096):
        pass
    os.kill(pid, signal.SIGTERM)
    time.sleep(patience)
    while True:
        kill_descendants()
        time.sleep(0.01)


def main(command: list[str]) -> NoReturn:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    pid = subprocess.Popen(command, stdin=subprocess.DEVNULL).pid
    threading.Thread(target=end_with_standard_input, args=(pid,), daemon=True).start()
    while True:
        ended, status = os.wait()
        if ended == pid:
            break
    while True:
        kill_descendants()
        try:
            os.wait()
        except ChildProcessError:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


if __name__ == "__main__":
    main(sys.argv[1:])
