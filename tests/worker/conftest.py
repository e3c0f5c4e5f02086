"""A worker started in each interpreter (tests/interpreters.py says in which), and a native one in the interpreter of the tests."""

import pathlib
import sys

import pytest

import interpreters

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from coordinator import Coordinator

NATIVE = "native"


@pytest.fixture(params=[*interpreters.interpreters(), (NATIVE, sys.executable)], ids=lambda parameter: parameter[0])
def python(request):
    """The path of an interpreter; a test that takes it runs in each."""
    return interpreters.path_of(request.param)


@pytest.fixture
def is_native(request):
    """Whether the worker is to be native."""
    return request.node.callspec.params["python"][0] == NATIVE


@pytest.fixture
def start(python, is_native):
    """Starts workers, and ends what a test leaves."""
    started = []

    def start_worker(start=None, **arguments):
        worker = Coordinator([python], start={"native": is_native, **(start or {})}, **arguments)
        started.append(worker)
        assert worker.hello is None or worker.hello["worker"] == ("native" if is_native else "pure")
        return worker

    yield start_worker
    for worker in started:
        worker.kill()


@pytest.fixture
def worker(start):
    """A worker that has said hello."""
    return start()
