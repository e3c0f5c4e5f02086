"""Uses execnet's public names and prints what came of it, a line each: run with execnet and with the shim, and compared."""

import io
import os
import queue
import shutil
import stat
import tempfile

import execnet


def show(name, function):
    try:
        result = function()
    except Exception as error:
        bases = [base.__name__ for base in (OSError, EOFError, ValueError, KeyError, IndexError) if isinstance(error, base)]
        result = f"raises {type(error).__name__} {bases}"
    print(f"{name}: {result!r}")


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
    specs()
    stored()
    groups()
    gateway = execnet.makegateway("popen")
    channels(gateway)
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
