"""A worker started in each interpreter; tests/interpreters.py says in which."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from coordinator import Coordinator


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
