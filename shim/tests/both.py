"""Uses execnet's public names and prints what came of it, a line each: run with execnet and with the shim, and compared."""

import importlib
import inspect
import io
import os
import queue
import shutil
import stat
import tempfile
import time

import execnet


def show(name, function):
    try:
        result = function()
    except Exception as error:
        bases = [base.__name__ for base in (OSError, EOFError, ValueError, KeyError, IndexError) if isinstance(error, base)]
        result = f"raises {type(error).__name__} {bases}"
    print(f"{name}: {result!r}")


# What users import from submodules, and use of objects, beside what the package itself names.
NAMES = {
    "gateway_base": ["Channel", "ChannelFileRead", "ChannelFileWrite", "DataFormatError", "DumpError", "ExecModel"],
    "gateway": ["Channel", "Gateway", "RInfo", "RemoteStatus"],
    "multi": ["Group", "MultiChannel", "NO_ENDMARKER_WANTED", "default_group", "makegateway", "set_execmodel"],
    "rsync": ["RSync"],
    "xspec": ["XSpec"],
    "gateway_bootstrap": ["HostNotFound"],
    "gateway_io": [],
    "gateway_socket": [],
    "script.socketserver": [],
}
NAMES["gateway_base"] += ["LoadError", "RemoteError", "TimeoutError", "dump", "dumps", "get_execmodel", "load", "loads"]


def parameters(function):
    found = [parameter for parameter in inspect.signature(function).parameters.values() if parameter.name != "self"]
    plain = (bool, str, int, type(None))
    return [(p.name, str(p.kind), p.default if isinstance(p.default, plain) else "...") for p in found]


def names():
    show("names", lambda: sorted(name for name in execnet.__all__ if name != "__version__"))
    for name in sorted(execnet.__all__):
        thing = getattr(execnet, name)
        if isinstance(thing, type):
            bases = (OSError, EOFError, ValueError, TypeError, TimeoutError)
            show(f"{name} bases", lambda thing=thing, bases=bases: [base.__name__ for base in bases if issubclass(thing, base)])
    for module, wanted in NAMES.items():
        found = importlib.import_module(f"execnet.{module}")
        show(f"names of {module}", lambda found=found, wanted=wanted: [name for name in wanted if not hasattr(found, name)])
    for cls in (execnet.Group, execnet.Gateway, execnet.MultiChannel, execnet.Channel, execnet.RSync):
        public = [name for name in METHODS[cls.__name__] if callable(getattr(cls, name))]
        for name in public:
            show(f"signature {cls.__name__}.{name}", lambda cls=cls, name=name: parameters(getattr(cls, name)))
    for name in ("dump", "dumps", "load", "loads", "makegateway", "set_execmodel"):
        show(f"signature {name}", lambda name=name: parameters(getattr(execnet, name)))


METHODS = {
    "Group": ["allocate_id", "makegateway", "remote_exec", "set_execmodel", "terminate"],
    "Gateway": ["exit", "hasreceiver", "join", "newchannel", "reconfigure", "remote_exec", "remote_status", "_rinfo"],
    "MultiChannel": ["make_receive_queue", "receive_each", "send_each", "waitclose"],
    "Channel": ["close", "isclosed", "makefile", "receive", "reconfigure", "send", "setcallback", "waitclose", "_getremoteerror"],
    "RSync": ["add_target", "filter", "send", "_report_send_file"],
}


def models():
    base = importlib.import_module("execnet.gateway_base")
    for name in ("thread", "main_thread_only"):
        model = base.get_execmodel(name)
        show(f"model {name}", lambda model=model: (repr(model), model.backend))
        for part, content in [("queue", "Queue"), ("subprocess", "Popen"), ("socket", "socket")]:
            show(f"model {name} {part}", lambda model=model, part=part, content=content: hasattr(getattr(model, part), content))
        lock, event = model.RLock(), model.Event()
        show(f"model {name} lock", lambda lock=lock: (lock.acquire(), lock.acquire(), lock.release(), lock.release())[0])
        show(f"model {name} event", lambda event=event: (event.is_set(), event.set(), event.is_set(), event.wait()))
        show(f"model {name} others", lambda model=model: (isinstance(model.get_ident(), int), model.sleep(0)))
        group = execnet.Group(execmodel=name)
        gateway = group.makegateway()
        show(f"model {name} there", lambda gateway=gateway: (gateway.remote_status().execmodel, gateway.execmodel.backend))
        channel = gateway.remote_exec("channel.send(channel.gateway.execmodel.backend); channel.send(channel.receive() + 1)")
        channel.send(41)
        show(f"model {name} items", lambda channel=channel: (channel.receive(10), channel.receive(10), channel.waitclose(10)))
        called, got = gateway.remote_exec("for i in range(3): channel.send(i)"), []
        called.setcallback(got.append, endmarker="end")
        called.waitclose(10)
        show(f"model {name} callback", lambda got=got: got)
        late = gateway.remote_exec("channel.receive()")
        show(f"model {name} timeout", lambda late=late: late.receive(timeout=0.1))
        group.terminate(timeout=5)
        show(f"model {name} terminated", lambda group=group: repr(group))
    # Executions that would wait for each other.
    group = execnet.Group(execmodel="main_thread_only")
    gateway = group.makegateway()
    first = gateway.remote_exec("channel.receive(); channel.send(1)")
    show("model full", lambda: gateway.remote_exec("channel.send(2)").receive(10))
    show("model full, closed", lambda: (first.close(), gateway.remote_exec("channel.send(3)").receive(10)))
    group.terminate(timeout=5)
    group = execnet.Group()
    group.set_execmodel("main_thread_only", "thread")
    show("models differ", lambda: (repr(group.execmodel), repr(group.remote_execmodel), group.makegateway().remote_status().execmodel))
    group.terminate(timeout=5)


def transports():
    group = execnet.Group()
    group.makegateway("popen//id=relay")
    for text in ["popen//id=far//via=relay", "popen//id=farther//via=far", "socket//id=installed//installvia=relay"]:
        gateway = group.makegateway(text)
        name = gateway.id
        spec, ask = gateway.spec, "channel.send([channel.gateway.id, 2**40])"
        show(f"transport {name}", lambda g=gateway, spec=spec: (g.hasreceiver(), repr(spec), spec.via, spec.installvia))
        show(f"transport {name} items", lambda gateway=gateway, ask=ask: gateway.remote_exec(ask).receive(10))
        show(f"transport {name} error", lambda gateway=gateway: gateway.remote_exec("1 / 0").receive(10))
        show(f"transport {name} new process", lambda gateway=gateway: gateway._rinfo().pid != group["relay"]._rinfo().pid)
        large = gateway.remote_exec("channel.send(len(channel.receive()))")
        large.send(b"x" * 2_000_000)
        show(f"transport {name} large", lambda large=large: large.receive(10))
    show("transports", lambda: repr(group))
    show("transport via nobody", lambda: group.makegateway("popen//via=nobody"))
    show("transport id taken", lambda: group.makegateway("popen//id=relay"))
    show("transport without program", lambda: group.makegateway("popen//python=no-such-python"))
    group.terminate(timeout=5)
    show("transports ended", lambda: repr(group))


def far_side(gateway):
    def there(source):
        return gateway.remote_exec(source).receive(10)

    show("there id", lambda: there("channel.send(channel.gateway.id.endswith('-worker'))"))
    show("there channel", lambda: there("channel.send((channel.isclosed(), channel.id % 2))"))
    show("there close", lambda: there("channel.close()"))
    show("there timeout", lambda: there("try: channel.receive(timeout=0.05)\nexcept channel.TimeoutError: channel.send('late')"))
    show("there errors", lambda: there("channel.send(issubclass(channel.TimeoutError, IOError))"))
    show("there refused", lambda: there("try: channel.send(object())\nexcept Exception as error: channel.send(type(error).__name__)"))
    show("there stdin", lambda: there("import sys; channel.send(sys.stdin.read())"))
    show("there file", lambda: there("f = channel.makefile('w'); f.write('text'); f.flush(); channel.receive()"))
    show("there mode", lambda: there("channel.makefile('x')"))
    ended = gateway.remote_exec("c = channel.receive()\ntry: c.receive()\nexcept EOFError: channel.send('end')")
    inner = gateway.newchannel()
    ended.send(inner)
    inner.close()
    show("there end", lambda: ended.receive(10))
    ended = gateway.remote_exec("c = channel.receive()\ntry: c.receive()\nexcept c.RemoteError as e: channel.send('words' in str(e))")
    inner = gateway.newchannel()
    ended.send(inner)
    inner.close("words")
    show("there error", lambda: ended.receive(10))
    source = "c = channel.receive(); got = []; c.setcallback(got.append, endmarker='end'); c.waitclose(); channel.send(got)"
    ended = gateway.remote_exec(source)
    inner = gateway.newchannel()
    ended.send(inner)
    inner.send(1)
    inner.close()
    show("there callback", lambda: ended.receive(10))
    show("there module", lambda: type(gateway.remote_exec(stat)).__name__)
    failing = gateway.remote_exec("channel.send(channel.receive()); channel.receive()")
    failing.setcallback(lambda item: 1 / 0)
    show("callback that raises", lambda: (failing.send(1), becomes_closed(failing)))
    silent = gateway.remote_exec("channel.send(1); channel.receive()")
    silent.receive(10)
    show("closed with a text", lambda: (silent.close("text"), silent.isclosed(), silent._getremoteerror()))


def becomes_closed(channel):
    for _ in range(500):
        if channel.isclosed():
            return True
        time.sleep(0.01)
    return False


def specs():
    for text in ["popen", "popen//chdir=x", "ssh=a b", "socket=host:1", "python=python3.9 -u//popen", "popen//env:A=1//env:B=x=y"]:
        spec = execnet.XSpec(text)
        show(f"spec {text}", lambda spec=spec: (str(spec), repr(spec), spec.popen, spec.ssh, spec.socket, spec.python))
        show(f"spec {text} more", lambda spec=spec: (spec.chdir, spec.env))
        show(f"spec {text} same files", spec._samefilesystem)
        show(f"spec {text} equal", lambda spec=spec, text=text: (spec == execnet.XSpec(text), hash(spec) == hash(execnet.XSpec(text))))
        show(f"spec {text} unknown", lambda spec=spec: spec.nothing)
    spec = execnet.XSpec("popen")
    spec.id, spec.chdir = "a", "b"
    show("spec changed", lambda: (spec.id, spec.chdir, str(spec)))
    show("spec doubled", lambda: execnet.XSpec("popen//popen"))
    show("spec private", lambda: execnet.XSpec("_x=1"))
    show("spec unlike", lambda: (execnet.XSpec("popen") == "popen", execnet.XSpec("popen") != execnet.XSpec("popen//id=a")))
    attributes = ["chdir", "dont_write_bytecode", "execmodel", "id", "installvia", "nice", "ssh_config", "vagrant_ssh", "via"]
    show("spec attributes", lambda: [getattr(execnet.XSpec("popen"), name) for name in attributes])


def groups():
    group = execnet.Group()
    show("group empty", lambda: (repr(group), len(group), list(group), group.defaultspec, group.execmodel, group.remote_execmodel))
    show("group model unknown", lambda: group.set_execmodel("nothing"))
    first = group.makegateway()
    second = group.makegateway("popen//id=second")
    show("group of two", lambda: (repr(group), len(group), [gateway.id for gateway in group]))
    show("group lookup", lambda: (group[0] is first, group["second"] is second, group[second] is second, "gw0" in group, first in group))
    show("group missing", lambda: group["nobody"])
    show("group index", lambda: group[7])
    show("group model late", lambda: group.set_execmodel("thread"))
    show("gateway", lambda: (repr(first), repr(first.spec), first.id, first.hasreceiver(), repr(first.execmodel)))
    show("gateway status", lambda: repr(first.remote_status()))
    show("gateway rinfo", lambda: (first._rinfo().pid > 0, first._rinfo().platform, first._rinfo().version_info, first._rinfo().cwd))
    show("gateway address", lambda: first.remoteaddress)
    channels = group.remote_exec("channel.send(channel.gateway.id); channel.send(channel.receive())")
    show("multichannel", lambda: (len(channels), channels[0] in channels, channels.receive_each()))
    channels.send_each(5)
    show("multichannel with channels", lambda: [(c is channels[i], item) for i, (c, item) in enumerate(channels.receive_each(True))])
    show("multichannel waitclose", channels.waitclose)
    failing = group.remote_exec("raise KeyError(1)")
    show("multichannel error", failing.waitclose)
    asked = group.remote_exec("channel.send(1)").make_receive_queue(endmarker="end")
    show("queue", lambda: sorted(str(asked.get(timeout=5)[1]) for _ in range(4)))
    show("queue empty", asked.get_nowait)
    show("queue timeout", lambda: asked.get(timeout=0.05))
    show("queue sizes", lambda: (asked.empty(), asked.qsize(), queue.Empty.__name__))
    second.exit()
    second.join(5)
    show("gateway gone", lambda: (repr(group), second.hasreceiver(), repr(second)))
    show("gateway gone exec", lambda: second.remote_exec("1"))
    show("gateway gone channel", second.newchannel)
    group.terminate(timeout=1)
    show("group terminated", lambda: (repr(group), len(group)))
    show("allocated", lambda: [allocate(group) for _ in range(2)])


def allocate(group):
    spec = execnet.XSpec("popen")
    group.allocate_id(spec)
    return spec.id


def pure(channel, a, b=2):
    channel.send(a + b)


def with_global(channel):
    channel.send(os.getpid())


def without_channel(a):
    pass


def channels(gateway):
    closed_over = 1
    show("function", lambda: gateway.remote_exec(pure, a=1).receive(5))
    show("function with a global", lambda: gateway.remote_exec(with_global))
    show("function without channel", lambda: gateway.remote_exec(without_channel))
    show("function with a closure", lambda: gateway.remote_exec(lambda channel: closed_over))
    show("arguments for text", lambda: gateway.remote_exec("1", a=1))
    items = [None, True, 0, -(2**31), 2**80, 1.5, 2j, "ä", b"\xff", (1, (2,)), [1, []], {"a": {}}, {1}, frozenset([2])]
    echo = gateway.remote_exec("for item in channel: channel.send(item)")
    for item in items:
        echo.send(item)
        show(f"item {item!r}", lambda: echo.receive(5))
    for item in [object(), [object()], type, bytearray(b"x"), range(3), Ellipsis]:
        show(f"item {type(item).__name__} refused", lambda item=item: echo.send(item))
    show("channel", lambda: (repr(echo), echo.isclosed(), echo.gateway is gateway, echo.id % 2))
    show("no item", lambda: echo.receive(timeout=0.05))
    show("no close", lambda: echo.waitclose(timeout=0.05))
    echo.close()
    show("closed", lambda: (repr(echo), echo.isclosed()))
    show("closed send", lambda: echo.send(1))
    show("closed receive", echo.receive)
    show("closed again", echo.close)
    failing = gateway.remote_exec("channel.send(1)\n1 / 0")
    show("error first item", lambda: failing.receive(5))
    show("error", lambda: failing.receive(5))
    show("error then", lambda: failing.receive(5))
    show("error text", lambda: "ZeroDivisionError" in str(remote_error(gateway)))
    show("error kept", lambda: gateway.remote_exec("pass")._getremoteerror())
    show("error waitclose", lambda: gateway.remote_exec("1 / 0").waitclose(5))
    show("syntax", lambda: gateway.remote_exec("this is none").waitclose(5))
    show("iteration", lambda: list(gateway.remote_exec("for i in range(3): channel.send(i)")))
    for end in ([], ["end"], [None]):
        got = []
        called = gateway.remote_exec("for i in range(3): channel.send(i)")
        called.setcallback(got.append, *end)
        called.waitclose(5)
        show(f"callback {end}", lambda got=got: got)
    show("callback twice", lambda: called.setcallback(print))
    show("callback and receive", called.receive)
    inner = gateway.newchannel()
    gateway.remote_exec("inner = channel.receive(); inner.send(inner.id); channel.send(inner)").send(inner)
    show("channel over channel", lambda: inner.receive(5) == inner.id)
    there = gateway.remote_exec("c = channel.gateway.newchannel(); channel.send(c); c.send(7)").receive(5)
    show("channel from there", lambda: (there.receive(5), there.id % 2, type(there) is type(inner)))
    lines = gateway.remote_exec("f = channel.makefile('w'); f.write('a\\n'); f.write('bc'); print('d', file=f)").makefile("r")
    show("file", lambda: (lines.readline(), lines.read(1), lines.readline(), lines.readline()))
    show("file mode", lambda: inner.makefile("x"))
    show("name", lambda: gateway.remote_exec("channel.send(__name__)").receive(5))
    show("reconfigure", lambda: (inner.reconfigure(), gateway.reconfigure()))
    show("errors", lambda: (inner.RemoteError is execnet.RemoteError, issubclass(inner.TimeoutError, OSError)))


def remote_error(gateway):
    try:
        gateway.remote_exec("1 / 0").receive(5)
    except execnet.RemoteError as error:
        return error


def stored():
    for item in [None, False, 7, -7, 2**90, 0.5, 1j, "ä", b"b", (1,), [1, "x"], {1: [2]}, {3}, frozenset([4])]:
        show(f"dumps {item!r}", lambda item=item: (execnet.dumps(item), execnet.loads(execnet.dumps(item))))
    for data in [b"", b"\x01Q", b"\x02", b"\x02Q", b"nonsense"]:
        show(f"loads {data!r}", lambda data=data: execnet.loads(data))
    show("dumps refused", lambda: execnet.dumps(object()))
    stream = io.BytesIO()
    execnet.dump(stream, [1, 2])
    stream.seek(0)
    show("dump and load", lambda: (stream.getvalue(), execnet.load(stream)))
    show("strings", lambda: execnet.loads(b"\x02M\x00\x00\x00\x01aQ", py2str_as_py3str=True))
    show("bytes", lambda: execnet.loads(b"\x02M\x00\x00\x00\x01aQ", py2str_as_py3str=False))
    show("error classes", lambda: [issubclass(e, execnet.DataFormatError) for e in (execnet.DumpError, execnet.LoadError)])


class Noting(execnet.RSync):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.asked, self.sent = [], []

    def filter(self, path):
        self.asked.append(os.path.basename(path))
        return not path.endswith("unwanted")

    def _report_send_file(self, gateway, modified_rel_path):
        self.sent.append((gateway.id, modified_rel_path))


def looks(folder):
    found = []
    for place, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(place, name)
            state = os.lstat(path)
            link = os.readlink(path).replace(os.path.dirname(folder), "...") if stat.S_ISLNK(state.st_mode) else None
            times = state.st_mtime_ns if stat.S_ISREG(state.st_mode) else None
            found.append((os.path.relpath(path, folder), oct(state.st_mode), times and times < 1.1e18, link))
    return sorted(found)


def trees(gateway, folder):
    source, there = os.path.join(folder, "source"), os.path.join(folder, "new", "there")
    os.makedirs(os.path.join(source, "sub", "deep"))
    for name in ["one", "sub/two", "sub/deep/three", "unwanted"]:
        with open(os.path.join(source, name), "w") as file:
            file.write(name)
    os.utime(os.path.join(source, "one"), (1e9, 1e9))
    os.chmod(os.path.join(source, "one"), 0o640)
    os.chmod(os.path.join(source, "sub"), 0o750)
    for name, target in [("relative", "one"), ("inner", os.path.join(source, "sub", "two")), ("outer", "/etc"), ("dangling", "nowhere")]:
        os.symlink(target, os.path.join(source, name))

    def sync(name, callback=None, delete=False, source=source):
        calls = []
        rsync = Noting(source, callback and (lambda *arguments: calls.append((*arguments[:2], type(arguments[2]).__name__))))
        rsync.add_target(gateway, there, finishedcallback=lambda *arguments: calls.append(("finished", arguments)), delete=delete)
        show(f"rsync {name}", lambda: (rsync.send(), sorted(rsync.asked), sorted(rsync.sent), sorted(calls)))
        show(f"rsync {name} made", lambda: looks(there))
        show(f"rsync {name} again", rsync.send)
        show(f"rsync {name} again, without raising", lambda: rsync.send(raises=False))

    sync("everything", callback=True)
    sync("unchanged")
    os.utime(os.path.join(source, "one"), (2e9, 2e9))
    sync("new time")
    with open(os.path.join(there, "extra"), "w"):
        pass
    sync("extra")
    sync("extra deleted", delete=True)
    os.unlink(os.path.join(source, "relative"))
    os.mkdir(os.path.join(source, "relative"))
    os.unlink(os.path.join(source, "one"))
    sync("kinds and deletions", delete=True)
    show("rsync of a file", lambda: sync("one file", source=os.path.join(source, "sub", "two")) if shutil.rmtree(there) is None else None)
    os.mkfifo(os.path.join(source, "pipe"))
    sync("pipe")
    rsync = execnet.RSync(source)
    show("rsync attributes", lambda: (rsync._sourcedir == source, rsync._verbose, rsync.filter("x")))


def main():
    names()
    specs()
    stored()
    groups()
    gateway = execnet.makegateway("popen")
    channels(gateway)
    far_side(gateway)
    models()
    transports()
    show("default group", lambda: (gateway in execnet.default_group, execnet.default_group.__class__ is execnet.Group))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "made")
        there = execnet.makegateway(f"popen//chdir={path}//env:FROM=spec//nice=1//dont_write_bytecode")
        source = "import os, sys; channel.send([os.getcwd(), os.environ['FROM'], sys.dont_write_bytecode])"
        show("spec applied", lambda: [value == path or value for value in there.remote_exec(source).receive(5)])
    with tempfile.TemporaryDirectory() as folder:
        trees(gateway, folder)
    execnet.default_group.terminate(timeout=1)


main()
