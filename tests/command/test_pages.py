"""Every block of code in the documentation is run and does what it says, or says where it is, or why it is not; see tests/pages.py.

The Python of a page is one session in an interpreter of its own, and its commands are run in one folder, in
which are the files that it shows.
"""

import os
import sys

import pytest

import pages
import shell

WITH_CODE = [page for page in pages.PAGES if pages.blocks(page)]


@pytest.mark.parametrize("page", WITH_CODE)
def test_every_block_is_run_or_says_why_not(page):
    silent = [
        f"{page}:{block.line}"
        for block in pages.blocks(page)
        if not (block.reason or block.server or block.file or block.is_session or block.commands() or block.language == "text")
    ]
    assert silent == [], "neither run, nor with `<!-- not run: REASON -->` above"


@pytest.mark.parametrize("page", [page for page in WITH_CODE if pages.sessions(page)])
def test_python(page, tmp_path):
    pages.run_session(page, pages.sessions(page), tmp_path, dict(os.environ))


@pytest.mark.parametrize("page", [page for page in WITH_CODE if any(block.commands() for block in pages.blocks(page))])
def test_commands(page, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "farexec").symlink_to(shell.COMMAND)
    # Its `python3` is the one that has the package.
    path = os.pathsep.join([f"{tmp_path}/bin", os.path.dirname(sys.executable), os.environ["PATH"]])
    environment = shell.environment(PATH=path)
    pages.run_commands(page, tmp_path, environment)
