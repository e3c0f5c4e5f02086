"""The blocks of the documentation that need a server are run with a real one; see tests/pages.py.

What the pages call `web01` or `box` is one that was started here: the commands that find it are first in the path.
"""

import os
import pathlib

import pytest

import interpreters
import pages
import servers

BLOCKS = [(page, block) for page in pages.PAGES for block in pages.blocks(page) if block.server]

HOSTS = """
Host web*
    HostName 127.0.0.1
    Port {port}
    IdentityFile {folder}/user_key
"""


def with_sshd(request, folder):
    """The command `ssh`, with a configuration that has the hosts."""
    sshd = request.getfixturevalue("sshd")
    own = pathlib.Path(sshd.config)
    config = folder / "ssh_config"
    config.write_text(HOSTS.format(port=sshd.port, folder=own.parent) + own.read_text())
    command = folder / "ssh"
    command.write_text(f'#!/bin/sh\nexec {servers.executable("ssh")} -F {config} "$@"\n')
    command.chmod(0o755)
    return {}


def with_podman(request, folder):
    """The command `podman`, which knows a running container."""
    podman = request.getfixturevalue("podman")
    podman.start("box")
    podman.install(folder / "podman")
    return {}


def with_slurm(request, folder):
    return request.getfixturevalue("slurm").environment


def with_python2(request, folder):
    """The command `python2.7`."""
    found = dict(interpreters.interpreters())
    if "2.7" not in found:
        pytest.skip("Python 2.7 is not installed")
    (folder / "python2.7").symlink_to(interpreters.path_of(("2.7", found["2.7"])))
    return {}


WITH = {"sshd": with_sshd, "podman": with_podman, "slurm": with_slurm, "python2": with_python2}


@pytest.mark.local("about the pages")
@pytest.mark.parametrize(("page", "block"), BLOCKS, ids=[f"{page}:{block.line}" for page, block in BLOCKS])
def test_block(request, tmp_path, page, block):
    folder = tmp_path / "bin"
    folder.mkdir()
    changes = WITH[block.server](request, folder)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    assert block.is_session
    pages.run_session(page, [block], tmp_path, {**os.environ, "PATH": path, **changes})
