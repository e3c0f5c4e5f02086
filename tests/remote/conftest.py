"""Servers and commands to reach workers through, started once for all tests. A test that takes one is skipped if it is not installed, or
fails if `FAREXEC_SERVERS=all` says that it has to be there; see tests/servers.py."""

import pytest

import servers


def need(component):
    if component in servers.missing_components():
        reason = f"{component} is not installed, or only root can use it here"
        if servers.CHOICE == "all":
            pytest.fail(f"{reason}; .ci/install installs it")
        pytest.skip(reason)


@pytest.fixture(scope="session")
def sshd(tmp_path_factory):
    """A running sshd, with an ssh_config that has its hosts; see `servers.Sshd`."""
    need("sshd")
    with servers.sshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """A running Slurm with two nodes; see `servers.Slurm`."""
    need("slurm")
    with servers.slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(scope="session")
def podman_command(tmp_path_factory):
    """What stands before a command that is to run in a new container."""
    need("podman")
    with servers.podman_command(tmp_path_factory.mktemp("podman")) as command:
        yield command


@pytest.fixture(scope="session")
def bwrap_command():
    """What stands before a command that is to run in a sandbox."""
    need("bwrap")
    return servers.bwrap_command()


@pytest.fixture(scope="session")
def sudo_command():
    """What stands before a command that is to run as the user `nobody`."""
    need("sudo")
    return servers.sudo_command()
