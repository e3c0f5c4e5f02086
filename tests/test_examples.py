"""The Python programs in examples/ do what they say; each checks its own results. (`cargo xtask test` runs those in Rust.)"""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.local("about this side")
@pytest.mark.parametrize("name", ["digests.py"])
def test_example(name):
    ran = subprocess.run([sys.executable, "-W", "error", EXAMPLES / name], capture_output=True, text=True, timeout=50, check=False)
    assert (ran.returncode, ran.stderr) == (0, "") and ran.stdout
