"""Every example in the docstrings of the package runs, and so does every Python example of the README."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import farexec

# What is executed behind worker.py, in its namespace, is no module of its own.
BEHIND = ("greenlets", "template")
MODULES = ["farexec", *(f"farexec.{module.name}" for module in pkgutil.iter_modules(farexec.__path__) if module.name not in BEHIND)]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    result = doctest.testmod(importlib.import_module(name))
    farexec.default_group.terminate(timeout=1)
    assert result.failed == 0


def test_readme():
    readme = Path(__file__).parent.parent / "README.md"
    result = doctest.testfile(str(readme), module_relative=False)
    farexec.default_group.terminate(timeout=1)
    assert result.attempted > 0 and result.failed == 0
