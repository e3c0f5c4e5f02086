"""Items both ways: every type in either encoding, what is refused and what the refusal says, sizes and fragments."""

import struct
import time

import pytest

from coordinator import CLOSE, DUMP_FORMAT, ITEM, RECONFIGURE, Channel, Py2Str, decode, pack_frame

ECHO = "while True: channel.send(channel.receive())"

ITEMS = [
    None, True, False, 0, 1, -1, 255, 256, 2**31 - 1, -(2**31), 2**31, -(2**31) - 1, 10**30, -(10**30), 1 << 30000, -(1 << 30000),
    0.0, -1.5, float("inf"), 1e300, "", "text", "åäö € 𝄞", "힣 hangul", "x" * 255, "x" * 256, "x" * 70000, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4),
    [], [1, [2, [3]]], {}, {"a": 1, 2: [None]}, {(1, 2): {3: 4}}, set(), {1, 2, 3}, frozenset([1, "a"]), [[0] * 1000] * 3,
]  # fmt: skip


def same(left, right):
    """Whether two items are of the same types, all the way down, and equal."""
    if type(left) is not type(right):
        return False
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return same(sorted(map(repr, left)), sorted(map(repr, right))) and all(same(left[key], right[key]) for key in left)
    return left == right


@pytest.mark.parametrize("dumped", [False, True])
def test_every_type_comes_back_as_it_went(worker, dumped):
    number = worker.execute(ECHO)
    for item in ITEMS:
        worker.send(number, item, dumped)
        answer = worker.receive(number)
        assert same(answer, item), (item, answer)


@pytest.mark.parametrize("item", [b"", b"bytes", b"\x00\xed\xa0\x80", b"x" * 300, b"x" * 70000, [b"\xed\xbf"]])
def test_bytes(worker, item):
    number = worker.execute(ECHO)
    worker.send(number, item)
    answer = worker.receive(number)
    if worker.hello["version"] < [3]:  # its bytes are its str
        answer = [bytes(part) for part in answer] if isinstance(answer, list) else bytes(answer)
    assert answer == item


def test_complex_numbers_travel_in_the_dump_format(worker):
    assert worker.evaluate("channel.send(1 + 2j); channel.send([{'a': -1j}, 'b'])")[0] == 1 + 2j


def test_huge_ints_in_the_dump_format(worker):
    """The limit on decimal digits that newer interpreters have must not be felt, nor changed."""
    source = """
import sys
before = getattr(sys, "get_int_max_str_digits", int)()
value = channel.receive()
channel.send(value == (1 << 50000) - 1)
channel.send([value, -value, 1j])
channel.send(getattr(sys, "get_int_max_str_digits", int)() == before)
"""
    value = (1 << 50000) - 1
    number = worker.execute(source)
    worker.send(number, value, dumped=True)
    assert worker.receive(number) is True
    assert worker.receive(number) == [value, -value, 1j]
    assert worker.receive(number) is True


REFUSED = """
import sys
class I(int): pass
class S(str): pass
class L(list): pass
class T(tuple): pass
class D(dict): pass
class F(float): pass
cycle = []
cycle.append({"again": (cycle,)})
refused = {
    "object": object(), "class": I, "builtin class": int, "function": REFUSED, "builtin": len, "I": I(1), "S": S("x"), "L": L(), "T": T(),
    "D": D(), "F": F(1), "bytearray": bytearray(b"x"), "memoryview": memoryview(b"x"), "Ellipsis": Ellipsis, "NotImplemented": NotImplemented,
    "none type": type(None), "module": sys, "range": iter([]), "gateway": channel.gateway, "cycle": cycle, "exception": ValueError(),
}
try:
    import enum
    refused["enum"] = enum.IntEnum("E", "A").A
except ImportError:
    pass
for name in refused:
    for item in (refused[name], [1, refused[name]], (refused[name], 1j), {"x": refused[name]}):
        try:
            channel.send(item)
        except Exception as error:
            if type(error).__name__ != "DumpError":
                channel.send([name, repr(error)])
        else:
            channel.send([name, "accepted"])
"""


def test_everything_else_is_refused(worker):
    assert worker.evaluate("def REFUSED(): pass\n" + REFUSED) == []


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("object()", ["object", "data"]),
        ("{'x': [0, 1, 2, set]}", ["type", "data['x'][3]"]),
        ("[(1, {2: bytearray(b'')})]", ["bytearray", "data[0][1][2]"]),
        ("{(1, Ellipsis): 1}", ["llipsis", "(a key of data)[1]"]),
        ("{1: frozenset([Ellipsis])}", ["llipsis", "an element of data[1]"]),
        ("[1j, {3: object()}]", ["object", "data[1][3]"]),
        ("['ok', u'\\ud800']", ["UTF-8", "data[1]"]),
        ("u'\\udfff'", ["UTF-8", "data"]),
        ("[0xa0ed, 0xb0a0ed, {'x': 'ok'}, (u'\\ud800',)]", ["UTF-8", "data[3][0]"]),
        ("(lambda a: a.append(a) or {'k': a})([])", ["contains itself", "data['k'][0]"]),
        ("(lambda f: f(f, 100000))(lambda f, n: __import__('functools').reduce(lambda a, b: [a], range(n)))", ["containers nested more than"]),
    ],
)
def test_the_refusal_names_type_and_place(worker, expression, words):
    source = f"try: channel.send({expression})\nexcept Exception as error: channel.send([type(error).__name__, str(error)])"
    ((name, message),) = worker.evaluate(source)
    assert name in ("DumpError", b"DumpError")
    for word in words:
        assert word in (message.decode() if isinstance(message, bytes) else message)


def test_an_item_that_cannot_be_read_is_an_error_of_receive(worker):
    source = "try: channel.receive()\nexcept Exception as error: channel.send(type(error).__name__)\nchannel.send(channel.receive())"
    for flags, payload in ((0, b"garbage"), (0, b""), (DUMP_FORMAT, b"garbage"), (DUMP_FORMAT, b""), (DUMP_FORMAT, b"K\x7f\xff\xff\xffQ")):
        number = worker.execute(source)
        worker.send_frame(ITEM, number, payload, flags)
        worker.send(number, 1)
        assert worker.receive(number) in ("LoadError", b"LoadError")
        assert worker.receive(number) == 1


def test_strings_of_python_2(worker):
    """What execnet 2.1.2 does by default, and after `reconfigure`, on either major version."""
    source = "for item in channel: channel.send([type(item).__name__, item])"
    if worker.hello["version"] < [3]:
        expected = {(1, 0): ("str", "unicode"), (0, 0): ("str", "unicode"), (1, 1): ("str", "str"), (0, 1): ("str", "str")}
    else:
        expected = {(1, 0): ("str", "str"), (0, 0): ("bytes", "str"), (1, 1): ("str", "bytes"), (0, 1): ("bytes", "bytes")}
    number = worker.execute(source)
    for config, names in expected.items():
        worker.send_frame(RECONFIGURE, number, bytes(config))
        for item, name in zip((Py2Str(b"abc"), "abc"), names, strict=True):
            worker.send(number, item, dumped=True)
            answer = worker.receive(number)
            assert (answer[0], answer[1]) in ((name, answer[1]), (name.encode(), answer[1]))
            if name == "bytes":
                assert answer[1] == b"abc"


def test_reconfigure_for_the_whole_gateway_and_by_the_worker(worker):
    worker.send_frame(RECONFIGURE, 0, bytes((0, 0)))
    number = worker.execute("channel.send(type(channel.receive()).__name__)\nchannel.reconfigure(True, True)\nchannel.send([u'text'])")
    worker.send(number, Py2Str(b"abc"), dumped=True)
    assert worker.receive(number) in ("bytes", b"str")
    assert worker.next_frame(number)[::3] == (RECONFIGURE, b"\x01\x01")
    kind, _number, flags, payload = worker.next_frame(number)
    assert (kind, flags & DUMP_FORMAT) == (ITEM, DUMP_FORMAT)  # so that the reader can tell text from bytes
    assert decode(flags, payload) == ["text"]


def test_thousands_of_items_each_way_in_order(worker):
    count = 5000
    number = worker.execute(
        f"for i in range({count}): channel.send(i)\nfor i in range({count}): assert channel.receive() == [i]\nchannel.send('done')"
    )
    worker.write(b"".join(worker.item_frame(number, [i]) for i in range(count)))
    for i in range(count):
        assert worker.receive(number) == i
    assert worker.receive(number) in ("done", b"done")


@pytest.mark.parametrize("size", [65526, 65536, 65537, 1 << 20, (1 << 20) + 65536, 5 << 20])
def test_large_payloads(worker, size):
    number = worker.execute("data = channel.receive()\nchannel.send(len(data))\nchannel.send(data)\nchannel.send(channel.receive())")
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    worker.write(worker.item_frame(number, data) + worker.item_frame(number, 7))
    assert worker.receive(number) == size
    assert worker.receive(number) == data
    assert worker.receive(number) == 7


def test_large_items_at_once_in_both_directions(worker):
    """Neither side may wait for the other to read first."""
    number = worker.execute("for i in range(8): channel.send(b'x' * 1000000)\nfor i in range(8): channel.send(len(channel.receive()))")
    worker.write(worker.item_frame(number, b"y" * 1000000) * 8)
    for _ in range(8):
        assert worker.receive(number) == b"x" * 1000000
    for _ in range(8):
        assert worker.receive(number) == 1000000


def test_frames_byte_by_byte(worker):
    number = worker.execute(ECHO)
    for item in (1, "two", {"three": [3]}):
        for byte in worker.item_frame(number, item):
            worker.write(bytes((byte,)))
            time.sleep(0.0002)
        answer = worker.receive(number)
        assert answer == item or answer == {b"three": [3]} or answer == b"two"


def test_a_large_frame_in_pieces(worker):
    number = worker.execute(ECHO)
    data = worker.item_frame(number, b"z" * 300000) + worker.item_frame(number, 5)
    for begin in range(0, len(data), 30011):
        worker.write(data[begin : begin + 30011])
        time.sleep(0.001)
    assert worker.receive(number) == b"z" * 300000
    assert worker.receive(number) == 5


def test_channels_over_channels(worker):
    source = """
other = channel.receive()
other.send(1)
mine = channel.gateway.newchannel()
channel.send(mine)
channel.send([mine, {"other": other}])
channel.send(mine.receive())
same = channel.receive()
channel.send(same[0] is mine and same[1] is other and same[2] is channel)
"""
    number = worker.execute(source)
    other = worker.open()
    worker.send(number, Channel(other), dumped=True)
    assert worker.receive(other) == 1
    mine = worker.receive(number)
    assert mine == Channel(2)
    answer = worker.receive(number)
    assert answer[0] == mine
    assert list(answer[1].values()) == [Channel(other)]
    worker.send(mine.number, "item")
    assert worker.receive(number) in ("item", b"item")
    worker.send(number, [mine, Channel(other), Channel(number)], dumped=True)
    assert worker.receive(number) is True


def test_items_that_came_before_the_handle(worker):
    """A channel may be used, and even be closed, before the mention of it is read."""
    number = worker.execute("channel.receive()\nother = channel.receive()\nchannel.send(list(other))\nchannel.send(other.isclosed())")
    other = worker.open()
    worker.send(number, Channel(other), dumped=True)
    worker.send(other, 1)
    worker.send(other, 2)
    worker.send_frame(CLOSE, other)
    number_2 = worker.execute("pass")
    worker.expect(CLOSE, number_2)
    worker.send(number, Channel(other), dumped=True)
    assert worker.receive(number) in ([1, 2], [])


def test_kinds_that_may_be_ignored(worker):
    worker.write(pack_frame(0x81, 5, b"something") + pack_frame(0xFF, 0, b"x" * 100000) + pack_frame(ITEM, 99, b"I1\n."))
    assert worker.evaluate("channel.send(1)") == [1]


@pytest.mark.parametrize(
    "garbage", [pack_frame(0x7F, 0), b"\xff" * 9 + b"\x7f" + b"x", struct.pack("<BBII", ITEM, 0, 1, 2**31), pack_frame(0x21, 0)]
)
def test_garbage_ends_the_worker(worker, garbage):
    if garbage[0] >= 0x80:
        garbage = b"\x44" + garbage[1:]
        garbage = garbage[:6] + b"\x00\x00\x00\x00"
    worker.write(garbage)
    worker.wait()
    assert b"protocol error" in worker.stderr
    assert b"Traceback" not in worker.stderr
