"""Fixtures that all tests of the Python package share, and the rule that every test leaves nothing behind; see `leftovers`."""

import os
import sys

import pytest

import farexec
import interpreters
import leftovers
import places
import servers


def pytest_addoption(parser):
    names = ", ".join(interpreters.EXPECTED)
    parser.addoption("--start", metavar="MODE", help="start workers whose spec does not say how by: template, spawn")
    parser.addoption("--worker", metavar="NAME", help=f"start workers in this interpreter: {names}, or a path")
    parser.addoption("--spec", metavar="SPEC", action="append", help="start workers there instead of on this machine; see tests/places.py")


def pytest_configure(config):
    config.addinivalue_line("markers", "local(reason, *transports): about this machine, left out elsewhere; see tests/places.py")

    config.pluginmanager.register(leftovers.Rule(), "leftovers")


def pytest_collection_modifyitems(config, items):
    specs = config.getoption("--spec")
    for item in items if specs else []:
        mark = item.get_closest_marker("local")
        if mark and (reason := places.why_left_out(mark, specs)):
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_report_header(config):
    worker, specs = config.getoption("--worker"), config.getoption("--spec")
    return [
        interpreters.report(),
        servers.report(),
        *([f"workers on this machine run in {worker}"] if worker else []),
        *([f"workers are at {' -> '.join(specs)}"] if specs else []),
    ]


TOLD = pytest.StashKey[list[str]]()


@pytest.fixture
def told(pytestconfig):
    """A function that adds a line to the report, whatever comes of the test."""
    return pytestconfig.stash.setdefault(TOLD, []).append


def pytest_terminal_summary(terminalreporter, config):
    for line in config.stash.get(TOLD, []):
        terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def worker_python(request, monkeypatch):
    """The interpreter of workers whose spec names none."""
    name, specs = request.config.getoption("--worker"), request.config.getoption("--spec")
    if specs:
        places.move(monkeypatch, specs)
        return places.python_at(specs)
    path = (interpreters.find_interpreter(name) or name) if name else sys.executable
    monkeypatch.setattr(farexec._group, "default_python", lambda: path)
    return path


@pytest.fixture(params=interpreters.interpreters(), ids=lambda parameter: parameter[0])
def python(request):
    """The path of an interpreter; a test that takes it runs in each."""
    return interpreters.path_of(request.param)


@pytest.fixture
def workers_version(worker_python):
    """The version of the interpreter that workers run in: major, minor, micro."""
    return interpreters.version_of(worker_python)


@pytest.fixture
def killed(request):
    """What is known of a worker that was killed: told, returncode."""
    return places.killed(request.config.getoption("--spec"))


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
    """A gateway to an interpreter on this machine, or wherever `--spec` says."""
    return group.makegateway()


@pytest.fixture
def open_descriptors():
    """A function that returns the numbers of this process's open descriptors."""
    return lambda: set(os.listdir("/proc/self/fd"))


@pytest.fixture(scope="session")
def sshd(tmp_path_factory):
    """A running sshd, with an ssh_config that has its hosts; see `servers.Sshd`."""
    servers.need("sshd")
    with servers.sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running
