"""A worker in every interpreter, driven from here: the zero-install worker runs in all of them, and what arrives is what was sent."""

import decimal
import math

import pytest

import farexec
from processes import wait_until_gone


@pytest.fixture
def old_or_new(group, python):
    """A gateway to each interpreter."""
    return group.makegateway(f"popen//python={python}")


ITEMS = [
    None,
    True,
    0,
    -1,
    2**31,
    -(2**31) - 1,
    10**1000,
    1.5,
    math.inf,
    2 - 1j,
    "grüße 世界 🦀",
    (1, (2, ())),
    [1, [2, []]],
    list(range(3000)),
    {"a": 1, "b": [None]},
    {n: str(n) for n in range(3000)},
    {1, 2, 3},
    frozenset([1]),
    "x" * 300_000,
]


def test_items_there_and_back(old_or_new):
    channel = old_or_new.remote_exec("for item in channel: channel.send(item)")
    for item in ITEMS:
        channel.send(item)
    for item in ITEMS:
        back = channel.receive(timeout=20)
        assert type(back) is type(item) and back == item


def test_bytes_there_and_back(old_or_new):
    channel = old_or_new.remote_exec("for item in channel: channel.send(item)")
    for item in (b"", b"\x00\xff", b"y" * 3_000_000):
        channel.send(item)
        back = channel.receive(timeout=20)
        if old_or_new._rinfo().version_info[0] == 2:  # bytes are its str, and arrive as text unless told otherwise
            assert back == item.decode("latin-1")
        else:
            assert back == item


def test_strings_of_python_2(old_or_new):
    if old_or_new._rinfo().version_info[0] > 2:
        source = "channel.send(str(type(channel.receive())))"
        channel = old_or_new.remote_exec(source)
        channel.send("text")
        assert channel.receive() == "<class 'str'>"
        return
    channel = old_or_new.remote_exec("channel.send('caf\\xe9')\nchannel.send(type(channel.receive()).__name__)")
    channel.reconfigure(py2str_as_py3str=False, py3str_as_py2str=True)
    assert channel.receive() == b"caf\xe9"
    channel.send("text")
    assert channel.receive() == b"str"


@pytest.mark.parametrize("spec", ["popen", "popen//via=relay"])
def test_output_is_forwarded(group, python, spec):
    lines = []
    group.set_output(lambda *line: lines.append(line))
    group.makegateway("popen//id=relay")
    gateway = group.makegateway(f"{spec}//python={python}//id=far//stdout=forward//stderr=forward")
    source = "import sys; sys.stdout.write('out\\n'); sys.stderr.write('err\\n'); sys.stdout.write('rest')"
    gateway.remote_exec(source).waitclose(10)
    group.terminate(timeout=5)
    assert sorted(lines) == [("far", "stderr", "err"), ("far", "stdout", "out"), ("far", "stdout", "rest")]


def test_a_function_with_arguments(old_or_new):
    assert old_or_new.remote_exec(scale, factor=7).receive() == 42


def scale(channel, factor):
    channel.send(6 * factor)


def test_an_exception(old_or_new):
    channel = old_or_new.remote_exec(
        """
        def fail():
            return {}["missing"]
        fail()
        """
    )
    with pytest.raises(farexec.RemoteError, match="KeyError") as caught:
        channel.receive()
    assert caught.value.type_name == "KeyError"
    assert caught.value.frames[-1][1:3] == (3, "fail")


def test_what_cannot_be_sent_is_named_with_its_place(old_or_new):
    channel = old_or_new.remote_exec("channel.send({'x': [1, 2, object()]})")
    with pytest.raises(farexec.RemoteError, match="object") as caught:
        channel.receive()
    assert "data['x'][2]" in caught.value.message
    assert caught.value.type_name.endswith("DumpError")


def test_callbacks_and_channels_over_channels(old_or_new):
    channel = old_or_new.remote_exec(
        """
        results = channel.receive()
        channel.setcallback(lambda item: results.send(item * 2), endmarker=100)
        channel.waitclose()
        results.close()
        """
    )
    results = channel.gateway.newchannel()
    channel.send(results)
    for number in range(10):
        channel.send(number)
    assert [results.receive(timeout=20) for _ in range(10)] == [number * 2 for number in range(10)]
    channel.close()
    assert results.receive(timeout=20) == 200
    results.waitclose(timeout=20)


def test_errors_and_an_orderly_end_get_there(group, old_or_new, capfd):
    reports = old_or_new.newchannel()
    channel = old_or_new.remote_exec(
        """
        reports = channel.receive()
        try:
            channel.receive()
        except channel.RemoteError as error:
            reports.send(str(error))
        """
    )
    channel.send(reports)
    channel.close("grüße")
    assert "gr" in reports.receive(10)
    assert channel.gateway.remote_exec("pass").waitclose(10) is None
    group.terminate(timeout=10)
    assert old_or_new.returncode == 0
    assert "protocol error" not in capfd.readouterr().err


def test_status_and_end_while_computing(group, old_or_new):
    channel = old_or_new.remote_exec("channel.send(1)\nwhile True: pass")
    channel.receive()
    assert old_or_new.remote_status().numexecuting == 1
    pid = old_or_new.pid
    group.terminate(timeout=0.5)
    wait_until_gone(pid)


def test_a_tree_is_received(old_or_new, tmp_path):
    source, there = tmp_path / "source", tmp_path / "there"
    (source / "folder").mkdir(parents=True)
    (source / "folder" / "large").write_bytes(bytes(range(256)) * 2000)
    (source / "grüße").write_text("small")
    (source / "folder").chmod(0o750)
    (source / "link").symlink_to(source / "folder")

    def sync():
        calls = []
        rsync = farexec.RSync(source, callback=lambda *call: calls.append(call[:2]), verbose=False)
        rsync.add_target(old_or_new, there, delete=True)
        rsync.send()
        assert sorted(path.name for path in there.iterdir()) == sorted(path.name for path in source.iterdir())
        for name in ("folder/large", "grüße"):
            if (source / name).exists():
                assert (there / name).read_bytes() == (source / name).read_bytes()
                assert abs((there / name).stat().st_mtime - (source / name).stat().st_mtime) < 1e-5
        assert (there / "folder").stat().st_mode == (source / "folder").stat().st_mode
        assert (there / "link").readlink() == there / "folder"
        return calls

    assert sorted(sync()) == [("ack", 5), ("ack", 512000), ("list", 512005)]
    assert sync() == [("list", 0)]
    changed = bytearray((source / "folder" / "large").read_bytes())
    changed[100_000:100_001] = b"inserted"
    (source / "folder" / "large").write_bytes(changed)
    (source / "grüße").unlink()
    assert sync() == [("list", len(changed)), ("ack", len(changed))]


def test_codecs(group, python):
    gateway = group.makegateway(f"popen//python={python}//execmodel=main_thread_only")
    types = farexec.Types()
    types.add(decimal.Decimal)
    gateway.setcodec(types)
    channel = gateway.remote_exec("channel.send(channel.receive()['x'] + 1)")
    channel.send({"x": decimal.Decimal("1.5")})
    assert channel.receive(10) == decimal.Decimal("2.5")
    channel.waitclose(10)
    gateway.setcodec("pickle")
    channel = gateway.remote_exec("channel.send(channel.receive()['x'] + 1)")
    channel.send({"x": decimal.Decimal("1.5")})
    assert channel.receive(10) == decimal.Decimal("2.5")
