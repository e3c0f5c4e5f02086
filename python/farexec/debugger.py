"""Has `breakpoint()` in a worker start `pdb`, which talks to the terminal of the coordinator: the far end of `allow_breakpoints`.

Each breakpoint has a channel of its own, which is sent to the coordinator. Over it go texts that are to be shown, None when a line is
wanted, and True when the program runs on; what comes back are the lines. The execution goes on as long as the gateway does, since its
channel is where those channels are sent.
Runs on Python 2.7 and 3.6 or newer, without anything but the standard library.
"""

import linecache
import pdb
import sys

if sys.version_info[0] == 2:
    import __builtin__ as builtins
else:
    import builtins


def serve(channel):
    if getattr(channel.gateway, "breakpoints", None) is not None:
        channel.send(None)
        return
    hook = channel.gateway.breakpoints = Hook(channel)
    had_hook = hasattr(sys, "breakpointhook")
    if had_hook:
        before, sys.breakpointhook = sys.breakpointhook, hook
    else:  # before Python 3.7
        builtins.breakpoint = hook
    channel.send(None)
    try:
        channel.waitclose()
    except EOFError:  # the coordinator is gone
        pass
    finally:
        channel.gateway.breakpoints = None
        if had_hook:
            sys.breakpointhook = before
        else:
            del builtins.breakpoint


class Hook(object):
    """What `breakpoint()` calls."""

    def __init__(self, channel):
        self.channel = channel

    def __call__(self, *arguments, **keywords):
        self.stop_in(sys._getframe(1))

    def stop_in(self, frame):
        show_source_of(frame)
        talk = self.channel.gateway.newchannel()
        try:
            self.channel.send(talk)
        except EnvironmentError:  # nobody is there any more
            return
        Debugger(talk).set_trace(frame)


class Debugger(pdb.Pdb):
    def __init__(self, channel):
        self.talk = Talk(channel)
        # Ctrl-C is the coordinator's.
        options = {} if sys.version_info[0] == 2 else {"nosigint": True}
        pdb.Pdb.__init__(self, stdin=self.talk, stdout=self.talk, **options)

    def set_continue(self):
        pdb.Pdb.set_continue(self)
        self.talk.runs_on()

    def set_quit(self):
        pdb.Pdb.set_quit(self)
        self.talk.runs_on()


class Talk(object):
    """The channel, as `pdb` wants to read and write."""

    encoding = "utf-8"

    def __init__(self, channel):
        self.channel = channel
        self.texts = []

    def write(self, text):
        self.texts.append(text if isinstance(text, type(u"")) else text.decode("utf-8", "replace"))

    def flush(self):
        texts, self.texts = self.texts, []
        if texts:
            self.send(u"".join(texts))

    def readline(self):
        self.flush()
        try:
            self.channel.send(None)
            line = self.channel.receive()
        except (EOFError, EnvironmentError):  # nobody is there any more
            return "continue\n"
        return line if isinstance(line, str) else line.encode("utf-8")

    def runs_on(self):
        self.flush()
        self.send(True)

    def send(self, item):
        try:
            self.channel.send(item)
        except EnvironmentError:
            pass


def show_source_of(frame):
    """Lets `pdb` show lines of what was sent as text, which is in no file."""
    while frame is not None:
        request = frame.f_locals.get("request")
        if isinstance(request, dict) and "source" in request:
            name = str(request.get("file") or "<remote exec>")
            lines = [""] * (request.get("line", 1) - 1) + request["source"].split("\n")
            # With no time of change it is not looked for in the file system, and stays.
            linecache.cache[name] = (1, None, [str(line) + "\n" for line in lines], name)
            return
        frame = frame.f_back
