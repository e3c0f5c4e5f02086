"""Fixtures that all tests of the Python package share."""

import os

import pytest

import farexec
import interpreters
import servers


def pytest_report_header():
    return [interpreters.report(), servers.report()]


@pytest.fixture(params=interpreters.interpreters(), ids=lambda parameter: parameter[0])
def python(request):
    """The path of an interpreter; a test that takes it runs in each."""
    name, path = request.param
    if path is None:
        pytest.fail(f"Python {name} is expected and was not found; see tests/interpreters.py")
    return path


@pytest.fixture
def group():
    """A group without gateways, terminated at the end."""
    with farexec.Group() as made:
        yield made


@pytest.fixture
def gateway(group):
    """A gateway to an interpreter on this machine."""
    return group.makegateway()


@pytest.fixture
def open_descriptors():
    """A function that returns the numbers of this process's open descriptors."""
    return lambda: set(os.listdir("/proc/self/fd"))
