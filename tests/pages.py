"""The pages of the documentation, and the blocks of code in them.

A block whose language is code is run by tests/command/test_pages.py; or a comment above it says with which server
tests/remote/test_pages.py runs it, `<!-- run with: sshd -->`, or why nothing does, `<!-- not run: the reason -->`.
"""

import dataclasses
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/**/*.md", "shim/README.md", "bench/README.md", "fuzz/README.md")
    for path in ROOT.glob(pattern)
)
MARK = r"(?:<!-- (?:not run: (?P<reason>[^\n]+)|run with: (?P<server>\w+)) -->\n)?"
BLOCK = re.compile(rf"^{MARK}```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"# (\S+\.\w+)\n")


@dataclasses.dataclass
class Block:
    """A block of code: its language as the page calls it, its text, the line that it begins in, and what the comment above it says."""

    language: str
    text: str
    line: int
    reason: str | None
    server: str | None

    @property
    def file(self) -> str | None:
        """The name of the file that this is the content of, which stands in a comment in its first line."""
        name = NAME.match(self.text)
        return name[1] if name and self.language in ("python", "toml") else None

    @property
    def is_session(self) -> bool:
        """Whether this is Python as it is entered at the prompt, with what is answered."""
        return self.language == "python" and self.text.startswith(">>> ")

    def commands(self) -> list[tuple[str, str]]:
        """What a shell is told in this block, each with what is written."""
        if self.language != "console":
            return []
        parts = (part.partition("\n") for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:])
        return [(command, output) for command, _, output in parts]


def blocks(page: str) -> list[Block]:
    """All blocks of a page that say what they are in."""
    text = (ROOT / page).read_text()
    matches = [match for match in BLOCK.finditer(text) if match["language"]]
    return [
        Block(match["language"], match["text"], text.count("\n", 0, match.start("text")) + 1, match["reason"], match["server"])
        for match in matches
    ]


def run_session(
    page: str, of: list[Block], folder: pathlib.Path, environment: dict[str, str], interpreter: str | pathlib.Path = sys.executable
) -> None:
    """Runs blocks of Python of a page in an interpreter of their own, as a reader has it.

    They are one session, since the text of a function is found only within the test that defined it. Lines keep their numbers.
    """
    lines = [""] * (ROOT / page).read_text().count("\n")
    for block in of:
        for number, line in enumerate(block.text.splitlines(), block.line - 1):
            lines[number] = line
    session = folder / pathlib.Path(page).name
    session.write_text("\n".join(lines))
    command = [interpreter, "-W", "error", "-m", "doctest", session]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", ""), ran.stdout + ran.stderr


def run_commands(page: str, folder: pathlib.Path, environment: dict[str, str]) -> None:
    """Runs what a page has a shell do, in one folder, in which are the files that it shows."""
    for block in blocks(page):
        if block.file:
            (folder / block.file).write_text(block.text)
    for block in blocks(page):
        for command, output in [] if block.reason else block.commands():
            result = subprocess.run(
                ["bash", "-c", command],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment,
                check=False,
            )
            # Interpreters from 3.11 on mark the place in the line as well.
            written = re.sub(r"^\[gw0\] +[~^]+\n", "", result.stdout, flags=re.MULTILINE)
            assert written == output, f"{page}:{block.line}: {command}"


def sessions(page: str) -> list[Block]:
    """The Python of a page that needs no server."""
    return [block for block in blocks(page) if block.is_session and not block.reason and not block.server]
