"""Uses execnet's public names and prints what came of it, a line each: run with execnet and with the shim, and compared."""

import contextlib
import io
import os
import queue
import re
import shutil
import stat
import tempfile
import threading
import time
import traceback

import execnet


def show(name, function):
    try:
        result = function()
    except Exception as error:
        bases = [base.__name__ for base in (OSError, EOFError, ValueError, KeyError, IndexError) if isinstance(error, base)]
        result = f"raises {type(error).__name__} {bases}"
    print(f"{name.replace(': ', ':')}: {result!r}")


def tell(name, function):
    """Shows the text of what is raised, too."""

    def told():
        try:
            return function()
        except Exception as error:
            return type(error).__name__, plain(str(error))

    show(name, told)


def plain(text):
    """Text without what is another with each run or implementation: numbers of channels, and places in files."""
    text = re.sub(r'File "[^"]*", line \d+', "File F, line N", text)
    text = re.sub(r"^[ ^~]+\n", "", text, flags=re.MULTILINE)
    return re.sub(r"id=\d+", "id=N", text)


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
    keys = ["dont_write_bytecode", "execmodel", "id", "installvia", "nice", "ssh_config", "vagrant_ssh", "via", "chdir"]
    for text in [
        "vagrant_ssh=box//ssh_config=file//via=x//execmodel=thread//nice=3",
        "socket//installvia=x//id=a//dont_write_bytecode//chdir=b",
    ]:
        show(f"spec {text} values", lambda text=text: [getattr(execnet.XSpec(text), key) for key in keys])
    show("spec without keys", lambda: [getattr(execnet.XSpec("popen"), key) for key in keys])
    show("spec values", lambda: [execnet.XSpec(text).env for text in ("env:A=", "env:A=1//env:A2=2", "env:A==")])
    show("spec compared", lambda: (spec == "popen", spec in {spec: 1}, spec != execnet.XSpec("popen//id=1")))
    show("spec private attribute", lambda: spec._nothing)
    for text in ["", "popen//", "popen//_x=1", "popen//env:A=1//env:A=2", "popen//env:A", "popen//what=1", "//popen"]:
        show(f"spec {text!r}", lambda text=text: repr(execnet.XSpec(text)))
    for text in ["id=a", "nothing=1", "popen//via=nobody", "socket=x", "socket=localhost:port", "popen//execmodel=slow", "popen//nice=x"]:
        show(f"gateway of {text}", lambda text=text: execnet.Group().makegateway(text))
    show("gateway of a missing python", lambda: caught(FileNotFoundError, "popen//python=no-such-python"))
    show("gateway of a closed port", lambda: execnet.Group().makegateway("socket=127.0.0.1:1"))
    show("gateway of a host without a name", lambda: execnet.Group().makegateway("socket=name.invalid:1"))


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


def caught(kind, spec):
    try:
        return execnet.Group().makegateway(spec)
    except kind:
        return kind.__name__


def more_of_groups():
    group = execnet.Group(["popen//id=a", "popen//id=b"])
    group.defaultspec = "popen//id=from-default"
    show("group of specs", lambda: (repr(group), group[-1].id, [gateway.id for gateway in group]))
    show("group default spec", lambda: (group.makegateway().id, group.makegateway(execnet.XSpec("popen//id=c")).id, repr(group)))
    tell("group index text", lambda: group[7])
    tell("group missing text", lambda: group["nobody"])
    show("group slice", lambda: group[0:1])
    show("group lookups", lambda: (None in group, "a" in group, group["a"] in group))
    show("group lookup of a place", lambda: (0 in group, 7 in group))
    show("group of no spec", lambda: [started([None]), started([""])])
    show("group duplicate id", lambda: group.makegateway("popen//id=a"))
    show("group after a duplicate id", lambda: repr(group))
    show("gateway exit", lambda: [group["c"].exit(), repr(group)])
    gone = group["b"]
    show("gateway exit twice", lambda: (gone.exit(), gone.exit()))
    group.terminate(timeout=1)
    show("group terminate again", lambda: (group.terminate(), group.terminate(timeout=1), group.terminate(0.1), repr(group)))
    show("empty group", lambda: (len(group.remote_exec("1")), group.remote_exec("1").receive_each(), bool(execnet.Group())))
    empty = execnet.MultiChannel([])
    show("empty multichannel", lambda: (len(empty), list(empty), empty.waitclose(), empty.send_each(1), empty.receive_each(True)))
    group = execnet.Group()
    group.set_execmodel("thread", "main_thread_only")
    show("models", lambda: (repr(group.execmodel), repr(group.remote_execmodel), group.execmodel.backend))
    gateway = group.makegateway("popen//id=main")
    show("model of a gateway", lambda: (gateway.spec.execmodel, gateway.execmodel.backend, gateway.remote_status().execmodel))
    where = "import threading; channel.send(threading.current_thread() is threading.main_thread())"
    for _ in range(2):
        channel = gateway.remote_exec(where)
        show("model main thread", lambda channel=channel: (channel.receive(5), channel.waitclose(5)))
    busy = gateway.remote_exec("channel.receive()")
    show("model main thread taken", lambda: gateway.remote_exec("1").waitclose(5))
    show("status busy", lambda: (gateway.remote_status().numexecuting, gateway.remote_status().execmodel))
    busy.send(1)
    busy.waitclose(5)
    show("spec model", lambda: group.makegateway("popen//execmodel=thread").remote_status().execmodel)
    model = gateway.execmodel
    show("model modules", lambda: (model.queue is queue, model.subprocess.__name__, model.socket.__name__))
    show("model thread", lambda: model.get_ident() == threading.get_ident())
    with model.Lock(), model.RLock():
        event = model.Event()
        model.start(event.set)
        show("model event", lambda: (event.wait(5), event.is_set(), event.clear(), event.is_set(), model.sleep(0)))
    show("model lock", lambda: [lock.acquire(timeout=0.01) for lock in [model.RLock()] * 2])
    end, other = os.pipe()
    with model.fdopen(other, "w") as file:
        file.write("ä\n")
    show("model file", lambda: model.fdopen(end, "r").read())
    show("model equal", lambda: execnet.gateway_base.get_execmodel(model) is model)
    channels = group.remote_exec(pure, a=1)
    show("multichannel of a function", channels.receive_each)
    show("multichannel parts", lambda: (len(channels), next(iter(channels)) is channels[0], None in channels))
    show("multichannel index", lambda: channels[7])
    show("multichannel slice", lambda: len(channels[0:1]))
    asked = group.remote_exec("channel.send(1)")
    received = asked.make_receive_queue()
    show("queue once", lambda: (asked.make_receive_queue() is received, received.get(timeout=5)[1], received.get(True, 5)[1]))
    show("queue then", lambda: received.get(block=False))
    show("queue full", lambda: (received.full(), received.maxsize))
    show("queue put", lambda: (received.put(1), received.put_nowait(2), received.get(), received.get()))
    show("queue done", lambda: [received.task_done() for _ in range(4)] and received.join())
    tell("multichannel first error", lambda: last_lines_of(group.remote_exec("raise ValueError(channel.gateway.id[:2])").waitclose))
    group.terminate(timeout=1)
    tell("models known", lambda: (execnet.set_execmodel("main_thread_only"), execnet.default_group.execmodel.backend))
    execnet.set_execmodel("thread")
    show("models back", lambda: (execnet.default_group.execmodel.backend, execnet.default_group.remote_execmodel.backend))
    for name in ["gw0", "gw1"]:
        show(f"taken {name}", lambda name=name: taken(name))


def started(specs):
    group = execnet.Group(specs)
    group.terminate(timeout=1)
    return len(specs)


def taken(name):
    """What a group names the gateway after one that was given the name."""
    group = execnet.Group([f"popen//id={name}"])
    try:
        return [group.makegateway().id, group.makegateway().id]
    finally:
        group.terminate(timeout=1)


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


def more_of_channels(gateway):
    show("gateway parts", lambda: (gateway.remote_status().execmodel, gateway.spec.popen))
    fields = ["cwd", "executable", "pid", "platform", "version_info"]
    info = gateway._rinfo()
    show("rinfo", lambda: [name for name in fields if hasattr(info, name)])
    show("rinfo kept", lambda: (gateway._rinfo() is info, gateway._rinfo(update=True).pid == info.pid, info.cwd == os.getcwd()))
    gateway.remote_exec("import os; os.chdir('/')").waitclose(5)
    show("rinfo anew", lambda: (gateway._rinfo().cwd == os.getcwd(), gateway._rinfo(update=True).cwd))
    show("rinfo text", lambda: all(f"{name}={getattr(info, name)}" in repr(info) for name in fields))
    with contextlib.redirect_stdout(io.StringIO()):
        answer = text_of(lambda: gateway.remote_init_threads(3))
    show("gateway init threads", lambda: answer)
    waiting = gateway.remote_exec("channel.send(1); channel.receive()")
    waiting.receive(5)
    show("status", lambda: (gateway.remote_status().numexecuting > 0, gateway.remote_status().numchannels > 0))
    show("gateway with a channel", lambda: plain(repr(gateway)))
    tell("no item text", lambda: waiting.receive(timeout=0.05))
    show("no close again", lambda: waiting.waitclose(timeout=0.05))
    tell("no item in no time", lambda: waiting.receive(timeout=0))
    show("timeouts", lambda: execnet.TimeoutError is waiting.TimeoutError is execnet.Channel.TimeoutError)
    waiting.close("an error of ours")
    show("closed with an error", lambda: (waiting.isclosed(), waiting.waitclose(1)))
    show("closed with an error, receive", waiting.receive)
    told = gateway.remote_exec(
        "inner = channel.receive()\ntry: inner.receive()\nexcept Exception as e: channel.send([type(e).__name__, str(e)])"
    )
    inner = gateway.newchannel()
    told.send(inner)
    inner.close("an error of ours")
    show("closed with an error, there", lambda: told.receive(5))
    closing = gateway.remote_exec("try: channel.close()\nexcept Exception as e: channel.send([type(e).__name__, str(e)])")
    show("close of the own channel, there", lambda: closing.receive(5))
    inner = gateway.newchannel()
    gateway.remote_exec("channel.receive().close('an error of theirs')").send(inner)
    tell("closed there with an error", lambda: inner.receive(5))
    show("closed there with an error, then", lambda: inner.receive(5))
    show("closed there with an error, send", lambda: inner.send(1))
    show("closed there with an error, state", lambda: (inner.isclosed(), inner.waitclose(1)))
    ended = gateway.remote_exec("channel.send(1); channel.send(2)")
    ended.waitclose(5)
    show("ended", lambda: (ended.isclosed(), ended.receive(), list(ended), ended.isclosed()))
    show("ended receive", ended.receive)
    show("ended send", lambda: ended.send(1))
    tell("ended waitclose", lambda: ended.waitclose(1))
    done = threading.Event()
    tell("ended callback", lambda: (ended.setcallback(lambda item: done.set(), endmarker="end"), done.wait(5)))
    tell("callback twice text", lambda: ended.setcallback(print))
    for source in [
        "1 / 0",
        "def f():\n    raise KeyError('a')\nf()",
        "raise SystemExit(3)",
        "raise SystemExit",
        "raise EOFError('x')",
        "raise KeyboardInterrupt",
        "this is none",
        "\n  if 1:\n      1 / 0\n",
        "try: 1 / 0\nexcept ZeroDivisionError: raise ValueError('b') from None",
        "class E(Exception):\n    def __str__(self): raise ValueError\nraise E",
    ]:
        if "Interrupt" not in source:
            tell(f"error of {source!r}", lambda source=source: last_lines(gateway.remote_exec(source)))
            tell(f"frames of {source!r}", lambda source=source: frames(gateway.remote_exec(source)))
    tell("error of a function", lambda: last_lines(gateway.remote_exec(pure, a=1, b="c")))
    tell("error of an argument", lambda: last_lines(gateway.remote_exec(pure, c=1)))
    tell("error of a module", lambda: gateway.remote_exec(traceback, a=1))
    tell("arguments for text, text", lambda: gateway.remote_exec("1", a=1))
    show("argument refused", lambda: gateway.remote_exec(pure, a=object()))
    tell("source of another type", lambda: gateway.remote_exec(3).waitclose(5))
    show("send refused text", lambda: type(text_of(lambda: gateway.newchannel().send(object()))) is str)
    error = execnet.RemoteError("some text")
    show("remote error", lambda: (str(error), repr(error), error.formatted, error.args, isinstance(error, Exception)))
    show("remote error warn", lambda: error.warn())
    show("next", lambda: gateway.remote_exec("channel.send(1)").next())
    show("next builtin", lambda: next(gateway.remote_exec("channel.send(1)")))
    show("next at the end", lambda: next(gateway.remote_exec("1"), "end"))
    iterated = gateway.newchannel()
    show("iterator", lambda: iter(iterated) is iterated)
    show("iteration of an error", lambda: next(gateway.remote_exec("raise KeyError")))
    tell("error text whole", lambda: gateway.remote_exec("1 / 0").receive(5))
    show("constructor", lambda: execnet.Channel())
    show(
        "gateway compared",
        lambda: (gateway == gateway, gateway in {gateway}, iterated == iterated, iterated in [iterated], iterated in {iterated}),
    )
    show("reconfigured channel", lambda: iterated.reconfigure(py2str_as_py3str=False, py3str_as_py2str=True))
    show("reconfigured gateway", lambda: gateway.reconfigure(py2str_as_py3str=False, py3str_as_py2str=True))
    show("reconfigured text", lambda: gateway.remote_exec("channel.send('ä')").receive(5))
    gateway.reconfigure()
    show("arguments by position", lambda: (gateway.newchannel().waitclose, gateway.newchannel().receive(0.01)))
    callbacks(gateway)
    files(gateway)


def names(gateway):
    """What users import from execnet's modules."""
    base, multi = execnet.gateway_base, execnet.multi
    channel = gateway.newchannel()
    show(
        "names of files",
        lambda: (isinstance(channel.makefile(), base.ChannelFileWrite), isinstance(channel.makefile("r"), base.ChannelFileRead)),
    )
    show("names of a gateway", lambda: (isinstance(gateway, base.BaseGateway), isinstance(gateway.execmodel, base.ExecModel)))
    show("names of what it tells", lambda: isinstance(gateway._rinfo(), execnet.gateway.RInfo))
    show("names of its status", lambda: type(gateway.remote_status()).__name__ == execnet.gateway.RemoteStatus.__name__)
    got = []
    called = gateway.remote_exec("channel.send(1)")
    called.setcallback(got.append, endmarker=base.NO_ENDMARKER_WANTED)
    called.waitclose(5)
    show("no endmarker for a callback", lambda: got)
    asked = execnet.MultiChannel([gateway.remote_exec("channel.send(1)")])
    received = asked.make_receive_queue(endmarker=multi.NO_ENDMARKER_WANTED)
    show("no endmarker for a queue", lambda: (received.get(timeout=5)[1], asked.waitclose(), received.empty()))


def text_of(function):
    try:
        return function()
    except Exception as error:
        return str(error)


def last_lines(channel):
    """The last line of a remote error; for its frames see the next function."""
    try:
        return channel.receive(5)
    except execnet.RemoteError as error:
        return error.formatted == str(error), str(error).startswith("Traceback"), plain(str(error)).splitlines()[-1]


def frames(channel):
    """The frames of a remote error that are of the executed source."""
    try:
        return channel.receive(5)
    except execnet.RemoteError as error:
        return re.findall(r'File "<[^"]*", line \d+.*', str(error))


def callbacks(gateway):
    for mark in ["end", None, 0, object]:
        got, done = [], threading.Event()
        channel = gateway.remote_exec("channel.send(1); channel.receive(); channel.send(2)")
        channel.setcallback(lambda item, got=got, done=done, mark=mark: (got.append(item), item is mark and done.set()), endmarker=mark)
        channel.send(None)
        show(f"endmarker {mark}", lambda done=done, got=got: (done.wait(5), got))
    got, done = [], threading.Event()
    channel = gateway.newchannel()
    channel.setcallback(lambda item: (got.append(item), done.set()), endmarker="end")
    channel.close()
    show("endmarker of a close here", lambda: (done.wait(5), got))
    got, done = [], threading.Event()
    channel = gateway.remote_exec("1 / 0")
    channel.setcallback(lambda item: (got.append(item), done.set()), endmarker="end")
    show("endmarker of an error", lambda: (done.wait(5), got))
    tell("callback error waitclose", lambda: last_lines_of(lambda: channel.waitclose(5)))
    channel = gateway.remote_exec("channel.send(1); channel.send(2)")
    channel.waitclose(5)
    got, done = [], threading.Event()
    channel.setcallback(lambda item: (got.append(item), item == "end" and done.set()), "end")
    show("callback for what is there", lambda: (done.wait(5), got))
    told = gateway.remote_exec(
        """
        inner = channel.receive()
        channel.send(None)
        try:
            inner.send(1)
            inner.waitclose(5)
            channel.send('no error')
        except Exception as error:
            channel.send([type(error).__name__, str(error).splitlines()[-1]])
        """
    )
    inner = gateway.newchannel()
    inner.setcallback(lambda item: 1 / 0)
    told.send(inner)
    told.receive(5)
    show("callback that raises, there", lambda: told.receive(5))
    show("callback that raises, here", lambda: inner.isclosed())
    there = gateway.remote_exec(
        """
        import threading
        got, done = [], threading.Event()
        inner = channel.gateway.newchannel()
        inner.setcallback(lambda item: (got.append(item), item == 'end' and done.set()), endmarker='end')
        channel.send(inner)
        done.wait(5)
        channel.send(got)
        """
    )
    inner = there.receive(5)
    inner.send(1)
    inner.close()
    show("callback there", lambda: there.receive(5))


def last_lines_of(function):
    try:
        return function()
    except execnet.RemoteError as error:
        return str(error).splitlines()[-1]


def files(gateway):
    echo = "for item in channel: channel.send(item)"
    channel = gateway.remote_exec(echo)
    written, read = channel.makefile(), channel.makefile("r")
    show(
        "files", lambda: (repr(written) == f"<ChannelFile {channel.id} open>", repr(read) == repr(written), written.isatty(), read.isatty())
    )
    show("file written", lambda: (written.write("ab\ncd"), written.flush(), written.write("e\nf")))
    show("file lines", lambda: (read.read(1), read.readline(), read.readline()))
    show("file close", lambda: (written.close(), channel.isclosed(), read.close(), channel.isclosed()))
    show("file bytes", lambda: gateway.remote_exec("channel.send(b'ab'); channel.send(b'c')").makefile("r").read(3))
    show(
        "file end",
        lambda: [
            read(gateway)
            for read in (lambda g: g.remote_exec("1").makefile("r").read(1), lambda g: g.remote_exec("1").makefile("r").readline())
        ],
    )
    show("file short", lambda: gateway.remote_exec("channel.send('abc')").makefile("r").read(10))
    show("file nothing", lambda: gateway.remote_exec("channel.send('abc')").makefile("r").read(0))
    tell("file mode text", lambda: channel.makefile("x"))
    for name in ["w", "r"]:
        closing = gateway.remote_exec(echo)
        file = closing.makefile(name, proxyclose=True)
        show(
            f"file {name} with proxyclose",
            lambda file=file, closing=closing: (file.close(), closing.isclosed(), repr(file).endswith("closed>")),
        )
    ended = gateway.remote_exec("channel.send('a')").makefile("r", True)
    show("file r with proxyclose at the end", lambda: (ended.read(2), ended.channel.isclosed()))
    show("file after close", lambda: text_of(lambda: closing.makefile("w").write("x")).startswith("cannot send to <Channel id="))
    show("file classes", lambda: (type(written).__name__, type(read).__name__, isinstance(read, execnet.gateway_base.ChannelFile)))
    show("file error", lambda: last_lines_of(lambda: gateway.remote_exec("raise KeyError(1)").makefile("r").read(1)))
    there = gateway.remote_exec(
        "import sys; f = channel.makefile('r'); g = channel.makefile('w'); g.write(f.readline()); print(f.read(2), file=g)"
    )
    there.send("line\nab")
    show("file there", lambda: [there.receive(5) for _ in range(3)])


def transports():
    group = execnet.Group()
    relay = group.makegateway("popen//id=relay")
    pids = [relay._rinfo().pid]
    for spec in [
        "popen//via=relay//id=far",
        "popen//via=far//id=farther",
        "socket//installvia=relay//id=served",
        "popen//via=served//id=behind",
    ]:
        show(f"transport {spec}", lambda spec=spec: transport(group, spec, pids))
    show("transport via nobody", lambda: group.makegateway("popen//via=nobody"))
    show("transport installvia nobody", lambda: group.makegateway("socket//installvia=nobody"))
    show("transport group", lambda: (repr(group), [gateway.spec.via for gateway in group]))
    show("transport processes", lambda: len(set(pids)))
    show("transport address", lambda: re.sub(r"\d+", "N", group["served"].remoteaddress).replace("N.N.N.N", "localhost"))
    show("transport address of popen", lambda: relay.remoteaddress)
    group.terminate(timeout=2)
    show("transport terminated", lambda: repr(group))
    group = execnet.Group(["popen//id=dies"])
    channel = group[0].remote_exec("channel.send(1); channel.receive(); import os; os._exit(3)")
    called, got, done = group[0].remote_exec("channel.receive()"), [], threading.Event()
    called.setcallback(lambda item: (got.append(item), done.set()), endmarker="end")
    channel.send(None)
    show("dead", lambda: (channel.receive(5), done.wait(5), got))
    show("dead receive", lambda: channel.receive(5))
    show("dead waitclose", lambda: channel.waitclose(5))
    show("dead iteration", lambda: list(channel))
    group[0].join(5)
    show("dead send", lambda: channel.send(1))
    show("dead gateway", lambda: (group[0].hasreceiver(), repr(group)))
    show("dead isclosed", channel.isclosed)
    show("dead newchannel", lambda: group[0].newchannel())
    show("dead exec", lambda: group[0].remote_exec("1"))
    show("dead status", lambda: group[0].remote_status())
    show("dead reconfigure", lambda: group[0].reconfigure())
    show("dead exit", lambda: (group[0].exit(), repr(group)))
    group.terminate(timeout=1)
    group = execnet.Group(["popen//id=busy"])
    channel = group[0].remote_exec("import time; channel.send(1); time.sleep(60)")
    channel.receive(5)
    began = time.monotonic()
    group.terminate(timeout=0.2)
    show("terminated while busy", lambda: (time.monotonic() - began < 5, repr(group)))


def transport(group, spec, pids):
    gateway = group.makegateway(spec)
    pids.append(gateway.remote_exec("import os; channel.send(os.getpid())").receive(5))
    echo = gateway.remote_exec("for item in channel: channel.send(item)")
    echo.send([1, {"a": b"\xff" * 100_000}])
    return (
        gateway.id,
        repr(gateway.spec),
        gateway.hasreceiver(),
        len(echo.receive(5)[1]["a"]),
        last_lines(gateway.remote_exec("1 / 0")),
        gateway.remote_status().numexecuting > 0,
        gateway._rinfo().pid == pids[-1],
        gateway.remote_exec("channel.send(channel.gateway.id)").receive(5).replace(spec, gateway.id),
    )


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
    deep = []
    for _ in range(20):
        deep = [deep]
    for item in [
        2**31 - 1,
        2**31,
        -(2**31),
        -(2**31) - 1,
        float("inf"),
        float("-inf"),
        -0.0,
        "",
        b"",
        (),
        [],
        {},
        set(),
        frozenset(),
        deep,
        {(1, 2): {3: (None, True)}},
    ]:
        show(f"dumps {item!r}", lambda item=item: (execnet.dumps(item), execnet.loads(execnet.dumps(item)) == item))
    for item in [
        object(),
        type,
        len,
        bytearray(b"x"),
        memoryview(b"x"),
        range(3),
        Ellipsis,
        NotImplemented,
        OSError(),
        "\ud800",
        Text("a"),
        Number(1),
        Things([1]),
    ]:
        show(f"dumps {type(item).__name__} refused", lambda item=item: execnet.dumps(item))
    for place, item in enumerate([[object()], {"a": object()}, {object: 1}, (object(),), {frozenset([len])}, [1, [2, [object()]]]]):
        show(f"dumps with an object {place}", lambda item=item: execnet.dumps(item))
    for data in [
        b"\x02L",
        b"\x02LLQ",
        b"\x02LQL",
        b"\x03LQ",
        b"\x02ZQ",
        b"\x02PQ",
        b"\x02F\x00Q",
        b"\x02D\x00Q",
        b"\x02@\x00\x00\x00\x09Q",
        "text",
        None,
    ]:
        show(f"loads {data!r}", lambda data=data: execnet.loads(data))
    show("loads bytearray", lambda: execnet.loads(bytearray(execnet.dumps([1]))))
    for arguments in [{}, {"py2str_as_py3str": True}, {"py3str_as_py2str": True}, {"py2str_as_py3str": True, "py3str_as_py2str": True}]:
        for code in [b"M", b"N", b"S", b"A"]:
            data = b"\x02" + code + b"\x00\x00\x00\x02\xc3\xa4Q"
            show(f"loads {code} {list(arguments)}", lambda data=data, arguments=arguments: execnet.loads(data, **arguments))
            show(f"load {code} {list(arguments)}", lambda data=data, arguments=arguments: execnet.load(io.BytesIO(data), **arguments))
    stream = io.BytesIO()
    execnet.dump(stream, 1)
    execnet.dump(stream, "two")
    stream.seek(0)
    show("load one after the other", lambda: (execnet.load(stream), execnet.load(stream)))
    show("dump to a text file", lambda: execnet.dump(io.StringIO(), 1))
    show("dumps by name", lambda: execnet.dumps(obj=1))
    show("loads by name", lambda: execnet.loads(bytestring=b"\x02LQ"))
    show("version", lambda: (type(execnet.__version__).__name__, execnet.gateway_base.DUMPFORMAT_VERSION))
    stream = io.BytesIO()
    execnet.dump(stream, [1, 2])
    stream.seek(0)
    show("dump and load", lambda: (stream.getvalue(), execnet.load(stream)))
    show("strings", lambda: execnet.loads(b"\x02M\x00\x00\x00\x01aQ", py2str_as_py3str=True))
    show("bytes", lambda: execnet.loads(b"\x02M\x00\x00\x00\x01aQ", py2str_as_py3str=False))
    show("error classes", lambda: [issubclass(e, execnet.DataFormatError) for e in (execnet.DumpError, execnet.LoadError)])


class Text(str):
    pass


class Number(int):
    pass


class Things(list):
    pass


def errors():
    for error in [execnet.DataFormatError, execnet.DumpError, execnet.LoadError, execnet.HostNotFound, execnet.TimeoutError]:
        show(f"error {error.__name__}", lambda error=error: (repr(error("a", 1)), str(error("a")), error("a").args, str(error())))
        show(
            f"bases of {error.__name__}",
            lambda error=error: [issubclass(error, base) for base in (OSError, ValueError, EOFError, execnet.DataFormatError)],
        )
    show(
        "names", lambda: [kind.__name__ for kind in (execnet.Gateway, execnet.Group, execnet.Channel, execnet.MultiChannel, execnet.RSync)]
    )
    show("makegateway", lambda: execnet.makegateway.__self__ is execnet.default_group)
    show("set_execmodel", lambda: execnet.set_execmodel.__self__ is execnet.default_group)


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
    rsync = execnet.RSync(source, verbose=False)
    show("rsync without targets", rsync.send)
    show("rsync without targets or raising", lambda: rsync.send(raises=False))
    show("rsync option", lambda: rsync.add_target(gateway, there, nothing=True))
    show("rsync callback", lambda: type(execnet.RSync(source, callback=3)).__name__)
    rsync = execnet.RSync(source)
    show("rsync attributes", lambda: (rsync._sourcedir == source, rsync._verbose, rsync.filter("x")))


def main():
    specs()
    stored()
    errors()
    groups()
    more_of_groups()
    transports()
    gateway = execnet.makegateway("popen")
    channels(gateway)
    more_of_channels(gateway)
    names(gateway)
    show("default group", lambda: (gateway in execnet.default_group, execnet.default_group.__class__ is execnet.Group))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "made")
        there = execnet.makegateway(f"popen//chdir={path}//env:FROM=spec//nice=1//dont_write_bytecode")
        source = "import os, sys; channel.send([os.getcwd(), os.environ['FROM'], sys.dont_write_bytecode])"
        show("spec applied", lambda: [value == path or value for value in there.remote_exec(source).receive(5)])
    with tempfile.TemporaryDirectory() as folder:
        trees(gateway, folder)
        execnet.default_group.terminate(timeout=1)  # else execnet still writes there


main()
