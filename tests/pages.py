"""The pages of the documentation, and the blocks of code in them.

A block whose language is code is run by tests/command/test_pages.py, or a comment above it says why it is not:
`<!-- not run: the reason -->`.
"""

import dataclasses
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/**/*.md", "shim/README.md", "bench/README.md", "fuzz/README.md")
    for path in ROOT.glob(pattern)
)
BLOCK = re.compile(r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"# (\S+\.\w+)\n")


@dataclasses.dataclass
class Block:
    """A block of code: its language as the page calls it, its text, the line that it begins in, and why it is not run, if it is not."""

    language: str
    text: str
    line: int
    reason: str | None

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
    return [Block(match["language"], match["text"], text.count("\n", 0, match.start("text")) + 1, match["reason"]) for match in matches]
