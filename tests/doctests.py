"""Every example in the docstrings of the package runs. (Those of the pages are run by tests/command/test_pages.py.)"""

import doctest
import importlib
import pkgutil

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
