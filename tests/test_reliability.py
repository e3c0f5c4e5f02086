"""docs/RELIABILITY.md promises nothing without a test: every test that it names is there."""

import pathlib
import re

HERE = pathlib.Path(__file__).parent
PAGE = HERE.parent / "docs" / "RELIABILITY.md"


def test_every_test_that_is_named_is_there():
    named = re.findall(r"`(?:(tests/[\w/]+\.py)(?:::)?)?(test_\w+)?`", PAGE.read_text())
    named = [(file, name) for file, name in named if file or name]
    assert len(named) > 15
    known = {path: path.read_text() for path in HERE.rglob("*.py")}
    for file, name in named:
        texts = [known[HERE.parent / file]] if file else known.values()
        assert any(f"def {name}(" in text for text in texts) if name else file, f"{file} has no {name}"
