"""Fixtures that all tests of the Python package share."""

import os
import subprocess
import sys

import pytest

import farexec
import interpreters
import servers


def pytest_addoption(parser):
    names = ", ".join(interpreters.EXPECTED)
    parser.addoption("--start", metavar="MODE", help="start workers whose spec does not say how by: template, spawn")
    parser.addoption("--worker", metavar="NAME", help=f"start workers in this interpreter: {names}, or a path")


def pytest_report_header(config):
    worker = config.getoption("--worker")
    return [interpreters.report(), servers.report(), *([f"workers on this machine run in {worker}"] if worker else [])]


@pytest.fixture(autouse=True)
def worker_python(request, monkeypatch):
    """The interpreter of workers on this machine whose spec names none."""
    name = request.config.getoption("--worker")
    path = (interpreters.find_interpreter(name) or name) if name else sys.executable
    monkeypatch.setattr(farexec._group, "default_python", lambda: path)
    return path


@pytest.fixture(params=interpreters.interpreters(), ids=lambda parameter: parameter[0])
def python(request):
    """The path of an interpreter; a test that takes it runs in each."""
    name, path = request.param
    if path is None:
        pytest.fail(f"Python {name} is expected and was not found; see tests/interpreters.py")
    return path


@pytest.fixture(scope="session")
def workers_version(request):
    """The version of the interpreter that workers run in: major, minor, micro."""
    name = request.config.getoption("--worker")
    if not name:
        return sys.version_info[:3]
    path = interpreters.find_interpreter(name) or name
    source = "import sys; print('%d.%d.%d' % sys.version_info[:3])"
    said = subprocess.run([path, "-c", source], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, said.split(".")))


@pytest.fixture(autouse=True)
def start_mode(request, monkeypatch):
    """How workers on this machine are started whose spec does not say."""
    mode = request.config.getoption("--start")
    if mode:
        monkeypatch.setenv("FAREXEC_START", mode)


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
