"""What this installation has for workers: worker.py and template.py as the running interpreter compiles them, and the extension module."""

from __future__ import annotations

import functools
import marshal
import pathlib
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import MAGIC_NUMBER

from . import _native


@functools.cache
def know_own_interpreter() -> None:
    """Tells the coordinator, once, how this interpreter compiles `worker.py` and `template.py`; usually it did so when it was installed.
    And where its extension module is, for workers that are to be sent it."""
    if _native.__file__ is not None:
        _native.offer_extension(_native.__file__)
    try:
        worker, template = _code_of("worker"), _code_of("template")
    except (OSError, ImportError):  # the package is in an archive: workers compile it
        return
    _native.know_interpreter(sys.executable, MAGIC_NUMBER, sys.implementation.name, worker, template)


def _code_of(name: str) -> bytes:
    path = str(pathlib.Path(__file__).with_name(f"{name}.py"))
    return marshal.dumps(SourceFileLoader(f"farexec.{name}", path).get_code(f"farexec.{name}"))
