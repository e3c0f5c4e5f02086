"""The rule that no process and no file of a test remains after it, which fails the test that breaks it.

Processes are those below this one. What a fixture of more than one test started may stay, and so may what that starts; templates stay
as long as the program, but not their workers. Files are those in the temporary folder and in shared memory: the former is one of this
run's own, short enough for the path of a socket. Linux only: elsewhere nothing is looked at."""

import os
import pathlib
import shutil
import sys
import tempfile
import time

import pytest

from keeper import children, descendants

SHARED_MEMORY = pathlib.Path("/dev/shm")

# Processes end after those who wait for them have been told.
PATIENCE = 10.0


def name_of(pid):
    """The command line of a process, or what is known without one; empty if it is gone."""
    try:
        folder = pathlib.Path(f"/proc/{pid}")
        return (
            folder.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            or folder.joinpath("comm").read_text().strip()
        )
    except OSError:
        return ""


def is_template(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text() == "farexec-tmpl\n"
    except OSError:
        return False


class Rule:
    """A plugin of pytest."""

    def __init__(self):
        self.active = sys.platform == "linux"
        self.allowed = set()
        self.known_files = set()

    def pytest_sessionstart(self):
        self.before = tempfile.tempdir, os.environ.get("TMPDIR")
        # Where pytest's own folders are, `tmp_path` among them, which it keeps for a while.
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="fx-"))
        self.folder.chmod(0o755)  # tests work as other users too
        os.environ["TMPDIR"] = tempfile.tempdir = str(self.folder)
        self.known_files = self.files()

    def pytest_sessionfinish(self):
        tempfile.tempdir, variable = self.before
        if variable is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = variable
        shutil.rmtree(self.folder, ignore_errors=True)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        if not self.active or fixturedef.scope == "function":
            return (yield)
        processes, files = set(descendants(os.getpid())), self.files()
        try:
            return (yield)
        finally:
            self.allowed |= set(descendants(os.getpid())) - processes
            self.known_files |= self.files() - files

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item):
        yield
        if not self.active:
            return
        deadline = time.monotonic() + PATIENCE
        while left := self.processes() + sorted(map(str, self.files() - self.known_files)):
            if time.monotonic() > deadline:
                # The next test is not blamed for it.
                self.allowed |= set(descendants(os.getpid()))
                self.known_files |= self.files()
                pytest.fail(f"{item.nodeid} left behind:\n" + "\n".join(left), pytrace=False)
            time.sleep(0.01)

    def files(self):
        return {path for folder in (self.folder, SHARED_MEMORY) if folder.is_dir() for path in folder.iterdir()}

    def processes(self):
        """What is there, and may not be: a line for each process."""
        found, left = list(children(os.getpid())), []
        for pid in found:
            if pid in self.allowed:
                continue
            found += children(pid)
            if not is_template(pid) and (name := name_of(pid)):
                left.append(f"process {pid}: {name[:200]}")
        return left
