"""What tests ask of the far end, whatever carries the connection: a folder of its own there, and that its worker is killed."""

import inspect
import os
import stat


def look(folder):
    """What is in a folder: modes, and contents or names by relative path. It is sent to workers, too."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(place, name)
            if name in files:
                with open(path, "rb") as file:
                    content = file.read()
            else:
                content = sorted(os.listdir(path))
            found[os.path.relpath(path, folder)] = (stat.S_IMODE(os.lstat(path).st_mode), content)
    return found


def new_folder(gateway, here):
    """Makes a folder at a gateway's far end: below `here` if its worker may write there, so that it is removed with that."""
    below = Folder(gateway, str(here)).ask("argument if os.access(argument, os.W_OK) else None")
    return Folder(gateway, Folder(gateway, below).ask("tempfile.mkdtemp(dir=argument)"))


class Folder:
    """A folder as a gateway's worker sees it."""

    def __init__(self, gateway, path):
        self.gateway = gateway
        self.path = path

    def __truediv__(self, name):
        return f"{self.path}/{name}"

    def ask(self, expression, name=None):
        """Evaluates an expression there, in which `argument` is the path of this folder, or of something in it."""
        source = f"import os, stat, tempfile\n{inspect.getsource(look)}\nargument = channel.receive()\nchannel.send({expression})"
        channel = self.gateway.remote_exec(source)
        channel.reconfigure(py2str_as_py3str=False)
        channel.send(self.path if name is None else self / name)
        return channel.receive(10)

    def look(self, name):
        return self.ask("look(argument)", name)

    def names(self, name):
        """The names in a folder, as bytes."""
        return sorted(self.ask("os.listdir(argument.encode('utf-8'))", name))

    def exists(self, name):
        return self.ask("os.path.exists(argument)", name)


def kill(gateway):
    """Kills a gateway's worker."""
    gateway.remote_exec("import os; os.kill(os.getpid(), 9)")
