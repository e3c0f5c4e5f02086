"""Which interpreters the worker is tested in, and a worker started in each.

Every test here runs once per interpreter. One that is expected and missing is a failure, not a skip, unless
`FAREXEC_INTERPRETERS` lists the ones to use: paths, separated by colons.
"""

import os
import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from coordinator import Coordinator  # noqa: E402

EXPECTED = ["2.7", "3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "pypy3"]


def find_interpreter(name):
    """Returns the path of an interpreter by the version it is called by; None if there is none."""
    if name == "pypy3":
        return shutil.which("pypy3")
    installed = sorted(pathlib.Path.home().glob(f".pyenv/versions/{name}.*/bin/python"))
    if installed:
        return str(installed[-1])
    return shutil.which(f"python{name}")


def interpreters():
    listed = os.environ.get("FAREXEC_INTERPRETERS")
    if listed:
        return [(path.strip("/").replace("/", "."), path) for path in listed.split(":")]
    return [(name, find_interpreter(name)) for name in EXPECTED]


@pytest.fixture(params=interpreters(), ids=lambda parameter: parameter[0])
def python(request):
    """The path of an interpreter."""
    name, path = request.param
    if path is None:
        pytest.fail(f"Python {name} is expected and was not found; FAREXEC_INTERPRETERS says which ones to use instead")
    return path


@pytest.fixture
def start(python):
    """Starts workers, and ends what a test leaves."""
    started = []

    def start_worker(**arguments):
        worker = Coordinator([python], **arguments)
        started.append(worker)
        return worker

    yield start_worker
    for worker in started:
        worker.kill()


@pytest.fixture
def worker(start):
    """A worker that has said hello."""
    return start()
