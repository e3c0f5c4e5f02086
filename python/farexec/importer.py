"""Imports modules from the coordinator: the far end of `allow_imports`.

A finder stands behind all others, so only what is missing here is asked for, and only what was allowed. The execution goes on as long
as the gateway does, since its channel is what the two sides talk over: a name goes there, and what comes back is None, or whether it is
a package, the name of its file, and its text.
Runs on Python 2.7 and 3.6 or newer, without anything but the standard library.
"""

import sys
from threading import RLock

if sys.version_info[0] == 2:
    import imp


def serve(channel, names):
    gateway = channel.gateway
    finder = getattr(gateway, "finder", None)
    if finder is not None:
        finder.names.update(names)
        channel.send(None)
        return
    finder = gateway.finder = Finder(channel, names)
    sys.meta_path.append(finder)
    channel.send(None)
    try:
        channel.waitclose()
    except EOFError:  # the coordinator is gone
        pass
    finally:
        sys.meta_path.remove(finder)


class Finder(object):
    """Finds modules at the coordinator, and is the loader of each."""

    def __init__(self, channel, names):
        self.channel = channel
        self.names = set(names)
        self.lock = RLock()
        self.found = {}  # by name: whether it is a package, its file, its text

    def look(self, name):
        """What the coordinator has by this name, if anything."""
        if name.partition(".")[0] not in self.names:
            return None
        with self.lock:
            if name not in self.found:
                try:
                    self.channel.send(name)
                    self.found[name] = self.channel.receive()
                except EnvironmentError as error:  # nobody is there any more
                    raise ImportError("cannot ask for %s: %s" % (name, error))
                except EOFError:
                    return None
            return self.found[name]

    # Python 3

    def find_spec(self, name, path=None, target=None):
        found = self.look(name)
        if found is None:
            return None
        from importlib.machinery import ModuleSpec

        spec = ModuleSpec(name, self, origin=found[1], is_package=found[0])
        spec.has_location = True
        return spec

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        _, file, source = self.look(module.__name__)
        exec(compile(source, file, "exec", 0, True), module.__dict__)

    # Python 2

    def find_module(self, name, path=None):
        try:  # what is found here comes after this finder
            imp.find_module(name.rpartition(".")[2], path)
            return None
        except ImportError:
            return None if self.look(name) is None else self

    def load_module(self, name):
        is_package, file, source = self.look(name)
        module = sys.modules.setdefault(name, imp.new_module(name))
        module.__file__, module.__loader__ = file, self
        if is_package:
            module.__path__ = []
        module.__package__ = name if is_package else name.rpartition(".")[0]
        try:
            exec(compile(source, file, "exec", 0, True), module.__dict__)
        except BaseException:
            del sys.modules[name]
            raise
        return module

    # What tracebacks and `inspect` ask a loader.

    def get_source(self, name):
        found = self.look(name)
        return found and found[2]

    def is_package(self, name):
        return self.look(name)[0]
