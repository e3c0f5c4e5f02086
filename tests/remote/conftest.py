"""Servers and commands to reach workers through, started once for all tests. A test that takes one is skipped if it is not installed, or
fails if `FAREXEC_SERVERS=all` says that it has to be there; see tests/servers.py."""

import os

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
def podman(tmp_path_factory):
    """A podman with a storage of its own; see `servers.Podman`."""
    need("podman")
    with servers.podman(tmp_path_factory.mktemp("podman")) as made:
        yield made


@pytest.fixture(scope="session")
def podman_command(podman):
    """What stands before a command that is to run in a new container."""
    return podman.command()


@pytest.fixture(scope="session")
def running_container(podman, tmp_path_factory):
    """A folder with the commands `podman` and `docker`, which know a running container `farexec-box`."""
    podman.start("farexec-box")
    folder = tmp_path_factory.mktemp("bin")
    for name in ("podman", "docker"):
        podman.install(folder / name)
    return folder


@pytest.fixture(scope="session")
def uv():
    """The folder of the command `uv`."""
    need("uv")
    return os.path.dirname(servers.executable("uv"))


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
