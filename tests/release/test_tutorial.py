"""A new user's path: docs/tutorial.md from its first line to its last, in a fresh clone, with what the tutorial installs and no more."""

import os
import pathlib
import subprocess

import pytest

import pages

pytestmark = pytest.mark.timeout(900)

TUTORIAL = "docs/tutorial.md"


def test_the_tutorial_from_a_fresh_clone(tmp_path):
    clone, folder = tmp_path / "clone", tmp_path / "empty"
    subprocess.run(["git", "clone", "--quiet", pages.ROOT, clone], check=True)
    folder.mkdir()
    (install,) = (block.text for block in pages.blocks(TUTORIAL) if block.language == "sh")
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "FAREXEC_COMMAND")}
    subprocess.run(["bash", "-e", "-c", install], cwd=clone, env=environment, check=True, timeout=800)
    programs: pathlib.Path = clone / ".venv" / "bin"
    environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
    pages.run_session(TUTORIAL, pages.sessions(TUTORIAL), folder, environment, programs / "python")
    pages.run_commands(TUTORIAL, folder, environment)
