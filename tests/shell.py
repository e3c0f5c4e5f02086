"""Runs the command `farexec` as a shell does: with pipes, and at a terminal.

`FAREXEC_COMMAND` names the command; without it, the tests run the console script of the environment that they run in.
"""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sysconfig
import termios
import time

SCRIPT = os.path.join(sysconfig.get_path("scripts"), "farexec")
COMMAND = os.environ.get("FAREXEC_COMMAND", SCRIPT)

CTRL_C = b"\x03"


def environment(**changes: str | None) -> dict[str, str]:
    """This process's environment as a test wants it: no hosts file of the user's, and no opinion about colours."""
    changed = {
        "FAREXEC_HOSTS": None,
        "FAREXEC_MONITOR": None,
        "NO_COLOR": None,
        "CLICOLOR_FORCE": None,
        "CI": None,  # where it is set, whatever shows colours may think that every terminal does
        "XDG_CONFIG_HOME": "/nonexistent",
        "TERM": "xterm",
        **changes,
    }
    kept = {name: value for name, value in os.environ.items() if name not in changed}
    return kept | {name: value for name, value in changed.items() if value is not None}


def run(*arguments: str, command: str = COMMAND, stdin: str = "", **changes: str | None) -> subprocess.CompletedProcess[str]:
    """Runs the command with pipes for its standard streams."""
    return subprocess.run(
        [command, *arguments], input=stdin, capture_output=True, text=True, timeout=50, env=environment(**changes), check=False
    )


class Terminal:
    """The command at a terminal of its own. What it writes there is in `seen`; with `piped`, its standard output is a pipe instead, which
    is `stdout`."""

    def __init__(self, *arguments: str, command: str = COMMAND, piped: bool = False, **changes: str | None) -> None:
        self.seen = ""
        read_end, write_end = os.pipe() if piped else (None, None)
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            if write_end is not None:
                os.dup2(write_end, 1)
            os.closerange(3, 256)
            os.execve(command, [command, *arguments], environment(**changes))
        if write_end is not None:
            os.close(write_end)
        self.stdout = None if read_end is None else os.fdopen(read_end, "rb")
        self._status: int | None = None

    def _read(self, seconds: float) -> bool:
        """Takes what is written within this time; returns whether more may come."""
        if not select.select([self._master], [], [], seconds)[0]:
            return True
        try:
            chunk = os.read(self._master, 65536)
        except OSError:  # nobody has the terminal open any more
            return False
        self.seen += chunk.decode(errors="replace")
        return bool(chunk)

    def wait_for(self, text: str, seconds: float = 30.0) -> None:
        """Waits until this text was written; fails if it is not."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            more = self._read(0.05)
            assert text in self.seen or (more and time.monotonic() < deadline), f"{text!r} is not in {self.seen!r}"

    def resize(self, rows: int, columns: int) -> None:
        """Gives the terminal this size, of which the command is told."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def wait(self, seconds: float = 30.0) -> int:
        """Waits for the end; returns the exit code, negative for a signal."""
        deadline = time.monotonic() + seconds
        while self._status is None:
            self._read(0.05)
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self._status = os.waitstatus_to_exitcode(status)
            assert time.monotonic() < deadline, f"goes on after {seconds} seconds: {self.seen!r}"
        while self._read(0) and select.select([self._master], [], [], 0)[0]:
            pass
        return self._status

    def close(self) -> None:
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._master)
        if self.stdout is not None:
            self.stdout.close()

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def commands() -> list[tuple[str, str]]:
    """Every command there is to test, by name: the console script, and the binary that cargo builds if `FAREXEC_COMMAND` names it."""
    return [("console script", SCRIPT)] + ([("binary", COMMAND)] if COMMAND != SCRIPT else [])
