"""Which interpreters the worker is tested in.

`FAREXEC_INTERPRETERS` decides: `found` (the default) takes those of the expected ones that are installed, and the report's header names
the others; `all` makes each that is missing a failure; anything else is a list of paths, separated by colons.
"""

import functools
import os
import pathlib
import shutil
import subprocess

EXPECTED = ["2.7", "3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "pypy3"]
CHOICE = os.environ.get("FAREXEC_INTERPRETERS", "found")


def find_interpreter(name: str) -> str | None:
    """The path of an interpreter by the version it is called by; None if there is none."""
    if name == "pypy3":
        return shutil.which("pypy3")
    installed = sorted(pathlib.Path.home().glob(f".pyenv/versions/{name}.*/bin/python"))
    if installed:
        return str(installed[-1])
    # What pyenv puts on the path is a script that fails for versions that are not chosen.
    found = shutil.which(f"python{name}")
    return found if found and ".pyenv" not in found else None


def interpreters() -> list[tuple[str, str | None]]:
    """Names and paths of the interpreters to test in; None is one that is missing and should not be."""
    if CHOICE not in ("found", "all"):
        return [(path.strip("/").replace("/", "."), path) for path in CHOICE.split(":")]
    known = [(name, find_interpreter(name)) for name in EXPECTED]
    return known if CHOICE == "all" else [(name, path) for name, path in known if path is not None]


def path_of(parameter: tuple[str, str | None]) -> str:
    """The path of one of these; fails if it is missing."""
    name, path = parameter
    assert path is not None, f"Python {name} is expected and was not found; see tests/interpreters.py"
    return path


@functools.cache
def version_of(path: str) -> tuple[int, ...]:
    """The version of an interpreter: major, minor, micro."""
    source = "import sys; print('%d.%d.%d' % sys.version_info[:3])"
    return tuple(map(int, subprocess.run([path, "-c", source], capture_output=True, text=True, check=True).stdout.split(".")))


def report() -> str:
    """A line that says where the tests run, and where they do not."""
    tested = [name for name, _ in interpreters()]
    missing = [name for name in EXPECTED if name not in tested]
    return f"workers are tested in: {', '.join(tested)}" + (f"; not installed: {', '.join(missing)}" if missing else "")
