"""Servers and commands to reach workers through, started once for all tests. A test that takes one is skipped if it is not installed, or
fails if `FAREXEC_SERVERS=all` says that it has to be there; see tests/servers.py. That of
sshd is in tests/conftest.py."""

import os
import shlex
import subprocess
import sys

import pytest

import farexec
import servers
from servers import need


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


@pytest.fixture
def socket_server(tmp_path):
    """The stand-alone socket server, and the specs' part that reaches it."""
    secret = tmp_path / "secret"
    secret.write_text("only we know\n")
    secret.chmod(0o600)
    script = os.path.join(os.path.dirname(farexec.__file__), "socketserver.py")
    command = [sys.executable, script, "127.0.0.1:0", "--secret-file", str(secret)]
    stderr = (tmp_path / "server-stderr").open("w")
    with stderr, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as server:
        port = server.stdout.readline().strip().rpartition(":")[2]
        yield f"socket=127.0.0.1:{port}//secret_file={secret}"
        server.kill()


@pytest.fixture
def specs_to(request, monkeypatch):
    """A function that gives the specs which lead somewhere in a way it is told by name: that of the worker, behind those of gateways on
    the way. Commands that the specs need are on the path from then on."""

    def need_on_path(folder):
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def behind(fixture, python):
        return f"command={shlex.join(request.getfixturevalue(fixture))}//python={python}"

    def ssh():
        return f"ssh=farexec-host//ssh_config={request.getfixturevalue('sshd').config}//python={sys.executable}"

    def box(name):
        need_on_path(request.getfixturevalue("running_container"))
        return f"{name}farexec-box//python={servers.SYSTEM_PYTHON}"

    def srun():
        for variable, value in request.getfixturevalue("slurm").environment.items():
            monkeypatch.setenv(variable, value)
        return f"srun=--job-name=farexec//python={sys.executable}"

    def uv():
        need_on_path(request.getfixturevalue("uv"))
        return "uv=six"

    ways = {
        "ssh": lambda: [ssh()],
        "socket": lambda: [request.getfixturevalue("socket_server")],
        "installvia": lambda: ["popen//id=relay", "socket//installvia=relay"],
        "via": lambda: ["popen//id=relay", "popen//via=relay"],
        "via twice": lambda: ["popen//id=relay", "popen//via=relay//id=second", "popen//via=second"],
        "ssh via": lambda: ["popen//id=relay", f"{ssh()}//via=relay"],
        "podman": lambda: [behind("podman_command", servers.SYSTEM_PYTHON)],
        "bwrap": lambda: [behind("bwrap_command", servers.SYSTEM_PYTHON)],
        "sudo": lambda: [behind("sudo_command", servers.SYSTEM_PYTHON)],
        "srun": lambda: [f"command={shlex.join(request.getfixturevalue('slurm').command())}//python={sys.executable}"],
        "srun=": lambda: [srun()],
        "uv=": lambda: [uv()],
        "podman=": lambda: [box("podman=")],
        "docker=": lambda: [box("docker=")],
    }
    return lambda name: ways[name]()
