"""The examples of docs/COMMAND.md do what they say."""

import os
import pathlib
import re
import subprocess

import shell

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "COMMAND.md"
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def examples():
    """The commands of the page, each with what it writes."""
    found = []
    for language, text in BLOCKS:
        if language == "console":
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, _, output = part.partition("\n")
                found.append((command, output))
    return found


def test_examples(tmp_path):
    for language, text in BLOCKS:
        name = re.match(r"# (\S+\.\w+)\n", text)
        if language in ("python", "toml") and name:
            (tmp_path / name[1]).write_text(text)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "farexec").symlink_to(shell.COMMAND)
    environment = shell.environment(PATH=f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")
    assert len(examples()) >= 10
    for command, output in examples():
        result = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, check=False
        )
        # Interpreters from 3.11 on mark the place in the line as well.
        written = re.sub(r"^\[gw0\] +[~^]+\n", "", result.stdout, flags=re.MULTILINE)
        assert written == output, command
