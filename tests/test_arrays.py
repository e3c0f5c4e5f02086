"""Arrays of NumPy as items, by the codec of that name."""

import sys

import hypothesis
import numpy
import pytest
from hypothesis import strategies
from hypothesis.extra import numpy as arrays_of

import farexec
from farexec import codecs

NUMBERS = [order + name for order in "<>" for name in ["i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]]
OTHERS = ["?", "i1", "u1", "S1", "S7", "<U3", ">U3", "<M8[ns]", ">M8[D]", "<m8[25us]", "<M8[Y]"]
TYPES = strategies.sampled_from([numpy.dtype(name) for name in NUMBERS + OTHERS])


def layouts(array):
    """The same elements, as they may lie in memory."""
    yield array
    yield numpy.asfortranarray(array)
    yield array.T
    if array.ndim:
        yield array[::-1]
        yield numpy.repeat(array, 2, axis=0)[::2]
        yield numpy.broadcast_to(array, (3, *array.shape))


def same(one, other):
    return type(one) is type(other) and one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


@hypothesis.given(arrays_of.arrays(TYPES, arrays_of.array_shapes(min_dims=0, min_side=0, max_side=4)))
@hypothesis.settings(deadline=None)
def test_every_array_comes_back(made):
    codec = codecs.Arrays()
    for array in layouts(made):
        item = codec.encode({"parts": [array, (array,)]})
        # The form of docs/PROTOCOL.md.
        assert item["parts"][0] == (array.dtype.str, array.shape, array.tobytes())
        back = codec.decode(item)["parts"]
        assert same(back[0], array) and same(back[1][0], array)


WORDS = strategies.sampled_from(["<f8", "|u1", "\0tuple", "\0type", "text"])
SHAPES = strategies.lists(strategies.integers(0, 2)).map(tuple)
LIKE_ARRAYS = strategies.tuples(strategies.just("|u1"), SHAPES, strategies.binary())
PLAIN = strategies.recursive(
    strategies.none() | strategies.integers() | strategies.binary(max_size=8) | WORDS | LIKE_ARRAYS,
    lambda part: strategies.lists(part, max_size=3) | strategies.lists(part, max_size=3).map(tuple),
)


@hypothesis.given(PLAIN)
def test_everything_else_stays_what_it_is(item):
    """A tuple that looks like an array, and is none, must not become one."""
    codec = codecs.Arrays()
    assert repr(codec.decode(codec.encode(item))) == repr(item)


@pytest.mark.parametrize(
    ("thing", "why"),
    [
        (numpy.array([object()]), "an array of object cannot be sent"),
        (numpy.zeros(2, "i4,f8"), "cannot be sent"),
        (numpy.zeros(2, numpy.longdouble), "cannot be sent: its memory means nothing elsewhere"),
        (numpy.zeros(2, "V4"), "cannot be sent"),
        (numpy.ma.masked_array([1, 2], [True, False]), "MaskedArray is more than its elements"),
        (numpy.float64(1.5), "numpy.float64 is no array"),
    ],
)
def test_what_cannot_be_sent_is_refused(thing, why):
    with pytest.raises(farexec.DumpError, match=why):
        codecs.Arrays().encode([thing])


@pytest.mark.parametrize(
    ("item", "why"),
    [
        (("<f8", (2,), b"1234567"), "7 bytes are not 2 elements"),
        (("<f8", (-1, -1), b"12345678"), "negative"),
        (("<f8", ("a",), b"12345678"), "no array of <f8 with the shape"),
        (("<f8", (2**40, 2**40, 0), b""), "no array of <f8 with the shape"),
        (("<f8", (0,) * 100, b""), "no array of <f8 with the shape"),
        (("<M8[what]", (1,), b"12345678"), "no array of <M8"),
        (("<U999999999", (1,), b"12345678"), "no array of <U9"),
        ({("|u1", (1,), b"1"): 1}, "unhashable"),
    ],
)
def test_what_is_no_array_is_told(item, why):
    with pytest.raises(farexec.LoadError, match=why):
        codecs.Arrays().decode(item)


def test_only_what_is_memory_is_made_an_array():
    """A far end must not be able to say that bytes are the addresses of objects."""
    for name in ("|O", "|O8", "|V8", "O", "<i8,<i8", "<f16", "<U0"):
        item = (name, (1,), b"12345678")
        assert codecs.Arrays().decode(item) == item


@pytest.fixture(params=["popen", "popen//native=no"])
def gateway(request):
    with farexec.Group([request.param]) as group:
        yield group[0]


def test_arrays_go_to_a_worker_and_back(gateway):
    """Each user wrote the same two lines, at both ends."""
    gateway.setcodec("numpy")
    source = "import numpy\nfor item in channel: channel.send({'sum': item + item, 'is': type(item) is numpy.ndarray})"
    channel = gateway.remote_exec(source)
    made = numpy.arange(24, dtype=">i4").reshape(2, 3, 4)
    for array in layouts(made):
        channel.send(array)
        back = channel.receive(10)
        assert back["is"] and numpy.array_equal(back["sum"], 2 * array)
    large = numpy.random.default_rng(1).random((512, 512))
    channel.send(large)
    back = channel.receive(10)["sum"]
    assert numpy.array_equal(back, large + large)
    with pytest.raises(ValueError, match="read-only"):
        back[0] = 1
    with pytest.raises(farexec.DumpError, match="array of object"):
        channel.send([numpy.array([None])])


def test_a_side_without_numpy_says_so(gateway, monkeypatch):
    gateway.remote_exec("import sys; sys.modules['numpy'] = None").waitclose(10)
    with pytest.raises(farexec.RemoteError, match='the codec "numpy" needs NumPy at both ends'):
        gateway.setcodec("numpy")
    channel = gateway.remote_exec("channel.send(channel.receive())")
    channel.send("goes on, without a codec")
    assert channel.receive(10) == "goes on, without a codec"
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ImportError, match='the codec "numpy" needs NumPy at both ends'):
        gateway.setcodec("numpy")
