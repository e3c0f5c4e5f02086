"""Every block of code in the documentation is run and does what it says, or says why it is not run; see tests/pages.py.

The Python of a page is one session in an interpreter of its own, and its commands are run in one folder, in
which are the files that it shows.
"""

import os
import re
import subprocess
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
        if not (block.reason or block.file or block.is_session or block.commands() or block.language == "text")
    ]
    assert silent == [], "neither run, nor with `<!-- not run: REASON -->` above"


@pytest.mark.parametrize("page", [page for page in WITH_CODE if any(block.is_session for block in pages.blocks(page))])
def test_python(page, tmp_path):
    # In an interpreter of its own, as a reader has it. One session, since the text of a function is found only within the test that
    # defined it. Lines keep their numbers.
    lines = [""] * (pages.ROOT / page).read_text().count("\n")
    for block in pages.blocks(page):
        if block.is_session and not block.reason:
            for number, line in enumerate(block.text.splitlines(), block.line - 1):
                lines[number] = line
    session = tmp_path / pages.ROOT.joinpath(page).name
    session.write_text("\n".join(lines))
    command = [sys.executable, "-W", "error", "-m", "doctest", session]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", ""), ran.stdout + ran.stderr


@pytest.mark.parametrize("page", [page for page in WITH_CODE if any(block.commands() for block in pages.blocks(page))])
def test_commands(page, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "farexec").symlink_to(shell.COMMAND)
    environment = shell.environment(PATH=f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")
    for block in pages.blocks(page):
        if block.file:
            (tmp_path / block.file).write_text(block.text)
    for block in pages.blocks(page):
        for command, output in [] if block.reason else block.commands():
            result = subprocess.run(
                ["bash", "-c", command],
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment,
                check=False,
            )
            # Interpreters from 3.11 on mark the place in the line as well.
            written = re.sub(r"^\[gw0\] +[~^]+\n", "", result.stdout, flags=re.MULTILINE)
            assert written == output, f"{page}:{block.line}: {command}"
