"""Codecs: types that cannot be sent by themselves, at either side and in every interpreter."""

import collections
import datetime
import decimal
import fractions
import pathlib
import textwrap

import pytest

import farexec
from far import new_folder


@pytest.fixture
def types():
    made = farexec.Types()
    made.add(decimal.Decimal)
    made.add(pathlib.PurePath, str, pathlib.Path)
    made.add(fractions.Fraction)
    made.add(datetime.date, datetime.date.toordinal, datetime.date.fromordinal)
    made.add(collections.OrderedDict, dict)
    return made


ITEMS = [
    decimal.Decimal("1.50"),
    [{fractions.Fraction(1, 3): (decimal.Decimal(1),)}, {decimal.Decimal(2)}],
    datetime.date(2024, 2, 29),
    collections.OrderedDict(a=decimal.Decimal(1)),
    ("\0type", 0, "no type"),
    ("\0tuple", ("\0type",)),
    (),
    7,
    None,
    "text",
    2**70,
]


def test_ordinary_types_can_be_sent(gateway, types, workers_version):
    """Items of ordinary types could not be sent, and each user wrote their own conversion."""
    with pytest.raises(farexec.DumpError, match="Decimal"):
        gateway.remote_exec("channel.receive()").send(decimal.Decimal(1))
    gateway.setcodec(types)
    channel = gateway.remote_exec("for item in channel: channel.send(item)")
    for item in ITEMS:
        channel.send(item)
        back = channel.receive(10)
        assert type(back) is type(item) and back == item
    path = pathlib.Path("/tmp/ä")
    channel.send({"where": path})
    if workers_version < (3,):
        with pytest.raises(farexec.RemoteError, match="there is no pathlib:Path here"):
            channel.receive(10)
        return
    assert channel.receive(10) == {"where": path}
    channel.send([b"bytes"])
    assert channel.receive(10) == [b"bytes"]
    with pytest.raises(farexec.DumpError, match="object"):
        channel.send([object()])
    channel.send("goes on")
    assert channel.receive(10) == "goes on"


def test_a_codec_of_one_channel(gateway, types):
    channel = gateway.newchannel()
    channel.setcodec(types)
    execution = gateway.remote_exec("other = channel.receive()\nother.send(other.receive() + 1)\nchannel.receive()")
    execution.send(channel)
    channel.send(decimal.Decimal(41))
    assert channel.receive(10) == decimal.Decimal(42)
    with pytest.raises(farexec.DumpError):
        execution.send(decimal.Decimal(1))
    with pytest.raises(OSError, match="has a codec already"):
        channel.setcodec("pickle")


def test_callbacks_queues_and_new_channels_use_the_codec(group, types):
    for _ in range(2):
        group.makegateway().setcodec(types)
    got = []
    source = """
        import decimal, threading
        new = channel.gateway.newchannel()
        received, end = [], threading.Event()
        new.setcallback(lambda item: end.set() if item is None else received.append(item), endmarker=None)
        channel.send(new)
        end.wait(10)
        channel.send(sum(received))
        """
    first, second = group.remote_exec(source)
    queue = farexec.MultiChannel([first]).make_receive_queue()
    _, new = queue.get(timeout=10)
    new.send(decimal.Decimal(1))
    new.send(decimal.Decimal(2))
    new.close()
    assert queue.get(timeout=10) == (first, decimal.Decimal(3))
    second.setcallback(got.append, endmarker="end")
    while not got:
        pass
    got[0].close()
    second.waitclose(10)
    assert got[1:] == [0, "end"]


def test_pickle(gateway):
    gateway.setcodec("pickle")
    channel = gateway.remote_exec("for item in channel: channel.send(item)")
    for item in [*ITEMS, ValueError("x"), 3j, range(5), bytearray(b"z")]:
        channel.send(item)
        back = channel.receive(10)
        assert type(back) is type(item) and repr(back) == repr(item)
    with pytest.raises(farexec.DumpError, match="pickle cannot encode it"):
        channel.send(lambda: None)
    nowhere = gateway.remote_exec(
        """
        import sys, types
        module = sys.modules["only_there"] = types.ModuleType("only_there")
        class Thing(object): pass
        Thing.__module__ = "only_there"
        if hasattr(Thing, "__qualname__"):
            Thing.__qualname__ = "Thing"
        module.Thing = Thing
        channel.send(Thing())
        """
    )
    with pytest.raises(farexec.LoadError, match=r"pickle cannot decode it: \w*Error"):
        nowhere.receive(10)


def test_a_codec_of_ones_own(gateway, tmp_path, monkeypatch):
    text = """
        import json
        def encode(item):
            return json.dumps(item)
        def decode(item):
            return ["decoded", json.loads(item)]
        """
    (tmp_path / "json_codec.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(str(tmp_path))
    import json_codec

    gateway.setcodec(json_codec)
    channel = gateway.remote_exec("channel.send(channel.receive())")
    channel.send({"a": 1})
    assert channel.receive(10) == ["decoded", ["decoded", {"a": 1}]]


def test_what_is_no_codec_is_refused(group, types):
    gateway = group.makegateway("popen//native=no")  # whose channels can be made to send what they should not
    with pytest.raises(TypeError, match="a codec is"):
        gateway.setcodec("msgpack")
    with pytest.raises(ValueError, match="cannot be found by its name"):
        types.add(decimal.Decimal, lambda item: str(item))

    class Local:
        pass

    with pytest.raises(ValueError, match=r"Local.* cannot be found by its name"):
        types.add(Local)
    gateway.setcodec(types)
    types.add(complex, repr)
    # As a worker would send it that means no good.
    hostile = gateway.remote_exec("type(channel).__mro__[1].send(channel, ('\\0type', 6, 'x'))")
    with pytest.raises(farexec.LoadError, match="was not added"):
        hostile.receive(10)


def test_trees_and_output_go_on_beside_a_codec(group, types, tmp_path):
    lines = []
    group.set_output(lambda *line: lines.append(line))
    group.makegateway("popen//id=between").setcodec(types)
    far = group.makegateway("popen//via=between//id=far//stdout=forward")
    folder = new_folder(far, tmp_path)
    far.setcodec("pickle")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_text("content")
    rsync = farexec.RSync(tmp_path / "source", verbose=False)
    rsync.add_target(far, folder / "there")
    rsync.send()
    assert folder.ask("open(argument).read() == 'content'", "there/file")
    far.remote_exec("print('printed')").waitclose(10)
    group.terminate(timeout=5)
    assert lines == [("far", "stdout", "printed")]


def test_a_codec_that_the_far_end_lacks_types_for(gateway, types, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("class Thing:\n    def __init__(self, *_): pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here

    types.add(only_here.Thing)
    gateway.setcodec(types)
    channel = gateway.remote_exec("channel.receive()")
    channel.send(only_here.Thing())
    with pytest.raises(farexec.RemoteError, match="there is no only_here:Thing here"):
        channel.receive(10)
