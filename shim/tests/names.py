"""Prints, as JSON, the names that execnet's modules define, with the methods of classes and what their arguments are called."""

import importlib
import inspect
import json

import execnet

MODULES = ["gateway", "gateway_base", "gateway_bootstrap", "gateway_io", "gateway_socket", "multi", "rsync", "script.socketserver", "xspec"]


def arguments(function):
    """The parameters with the kinds of defaults that read the same here and there; of methods, without the object itself."""
    return [
        (parameter.name, parameter.kind.name, repr(parameter.default) if isinstance(parameter.default, bool | str | None) else "")
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name != "self"
    ]


def methods(kind):
    return {
        name: arguments(method)
        for name, method in inspect.getmembers(kind, inspect.isroutine)
        if not name.startswith("_") and not hasattr(BaseException, name)
    }


def names(module):
    return sorted(name for name, value in vars(module).items() if not name.startswith("_") and not inspect.ismodule(value))


def defined(module):
    """The names that a module does not have from another one."""
    return [name for name in names(module) if getattr(getattr(module, name), "__module__", module.__name__) == module.__name__]


modules = {name: importlib.import_module(f"execnet.{name}") for name in MODULES}
classes = {name: value for name, value in vars(execnet).items() if inspect.isclass(value)}
classes |= {name: getattr(modules["gateway_base"], name) for name in ("ChannelFileRead", "ChannelFileWrite")}
functions = {name: value for name, value in vars(execnet).items() if inspect.isroutine(value)}
print(
    json.dumps(
        {
            "all": execnet.__all__,
            "names": {name: names(module) for name, module in modules.items()},
            "defined": {name: defined(module) for name, module in modules.items()},
            "methods": {name: methods(kind) for name, kind in sorted(classes.items())},
            "functions": {name: arguments(function) for name, function in sorted(functions.items())},
        }
    )
)
