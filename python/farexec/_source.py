"""What can be executed at a worker: text, a module, or a function that needs nothing from around it."""

from __future__ import annotations

import builtins
import dis
import inspect
import textwrap
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .codecs import name_of


class Source(NamedTuple):
    """Source text, and how to execute it."""

    text: str
    file: str | None
    line: int
    call: str | None


def source_of(source: str | types.ModuleType | Callable[..., object], kwargs: dict[str, Any]) -> Source:
    """Returns the text of `source`.

    :raises TypeError: it is none of these, or keyword arguments come with something that is no function.
    :raises ValueError: it is a function that would not work alone; the error says why.
    """
    if isinstance(source, types.FunctionType):
        return source_of_function(source, "channel")
    if kwargs:
        raise TypeError("can't pass kwargs to non-function remote_exec")
    if isinstance(source, types.ModuleType):
        return Source(inspect.getsource(source), inspect.getsourcefile(source), 1, None)
    if isinstance(source, str):
        # Text that begins at the margin has no indentation as a whole.
        return Source(source if source[:1].strip() else textwrap.dedent(source), None, 1, None)
    raise TypeError(f"expected source text, a function or a module, not an object of type {type(source).__name__!r}")


def called(function: Callable[..., object] | str) -> tuple[Any, ...]:
    """Returns where workers have a function from: its text, as a :class:`Source`; or a module, and its name there.

    :raises ValueError: it is no such name, or a function that would not work alone; the error says why.
    :raises TypeError: it is something else, which cannot be imported.
    """
    if isinstance(function, types.FunctionType):
        return source_of_function(function, None)
    name = function if isinstance(function, str) else name_of(function)  # type: ignore[no-untyped-call]
    module, _, name = name.partition(":")
    if not module or not name:
        raise ValueError(f"the name of a function has the form module:name, not {function!r}")
    return module, name


def source_of_function(function: types.FunctionType, first: str | None) -> Source:
    """Returns the text of a function that works alone, and has a first parameter of this name if one is given.

    :raises ValueError: it would not; the error says why.
    """
    name = function.__name__
    if name == "<lambda>":
        raise ValueError("a lambda can't be sent: define a function")
    if function.__closure__ is not None:
        names = ", ".join(function.__code__.co_freevars)
        raise ValueError(f"functions with closures can't be passed: {name} uses {names} of the code around it")
    if not inspect.isgeneratorfunction(function) and not inspect.iscoroutinefunction(function):
        parameters = list(inspect.signature(function).parameters)
        if first is not None and parameters[:1] != [first]:
            raise ValueError(f"expected first function argument to be `{first}`: {name} has {parameters}")
    else:
        raise ValueError(f"{name} is a generator or a coroutine: calling it would not execute it")
    unknown = sorted(set(_global_names(function.__code__)) - set(dir(builtins)))
    if unknown:
        names = ", ".join(unknown)
        raise ValueError(f"the use of non-builtin globals isn't supported: {name} uses {names}; import inside of it")
    try:
        lines, line = inspect.getsourcelines(function)
    except OSError as error:
        raise ValueError(f"can't find source file for {function!r}: {error}") from None
    return Source(textwrap.dedent("".join(lines)), inspect.getsourcefile(function), line, name)


def _global_names(code: types.CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)
