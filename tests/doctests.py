"""Every example in the docstrings of the package runs, and so does every Python example of the README and of pages that have some."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import farexec

# What is executed behind worker.py, in its namespace, is no module of its own.
NO_MODULES = ("greenlets", "template")
NAMES = [module.name for module in pkgutil.iter_modules(farexec.__path__)]
MODULES = ["farexec", *(f"farexec.{name}" for name in NAMES if name not in NO_MODULES)]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    result = doctest.testmod(importlib.import_module(name))
    farexec.default_group.terminate(timeout=1)
    assert result.failed == 0


@pytest.mark.parametrize("page", ["README.md", "docs/ASYNCIO.md"])
def test_pages(page):
    result = doctest.testfile(str(Path(__file__).parent.parent / page), module_relative=False)
    farexec.default_group.terminate(timeout=1)
    assert result.attempted > 0 and result.failed == 0
