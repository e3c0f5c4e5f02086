"""dumps and loads: what may happen to objects, and to the collector of garbage, while they are walked through or made."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest

import farexec

RECORDS: list[Any] = [{"id": n, "name": f"name {n}", "tags": ("a", [n])} for n in range(3000)]


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """The collector is as it was afterwards."""
    yield
    gc.enable()


def test_a_dict_that_changes_while_its_error_is_told() -> None:
    """The type of an object that is refused was asked for its name, which runs anybody's code, in the middle of the dict: a crash."""

    class Meta(type):
        @property
        def __module__(cls) -> str:  # type: ignore[override]
            outer.clear()
            return "somewhere"

    class Refused(metaclass=Meta):
        pass

    outer: dict[Any, Any] = {("key", "of", str(id(Meta))): [Refused()]}
    text = repr(next(iter(outer)))
    with pytest.raises(farexec.DumpError) as caught:
        farexec.dumps(outer)
    assert f"data[{text}][0]" in str(caught.value)
    assert "Refused" in str(caught.value)
    assert not outer


def test_no_garbage_is_collected_meanwhile() -> None:
    """With CPython before 3.12, a load collected garbage for every 700 containers, and a finalizer could see half of it."""
    data = farexec.dumps(RECORDS)
    collections: list[str] = []
    gc.callbacks.append(lambda phase, info: collections.append(phase))
    try:
        loaded = farexec.loads(data)
        during = len(collections)
    finally:
        gc.callbacks.pop()
    assert loaded == RECORDS
    assert during == 0


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_left_as_it_was(enabled: bool) -> None:
    """Also by what fails."""
    (gc.enable if enabled else gc.disable)()
    data = farexec.dumps(RECORDS)
    assert gc.isenabled() is enabled
    assert farexec.loads(data) == RECORDS
    assert gc.isenabled() is enabled
    with pytest.raises(farexec.DumpError):
        farexec.dumps([object()])
    assert gc.isenabled() is enabled
    with pytest.raises(farexec.LoadError):
        farexec.loads(data[:-1])
    assert gc.isenabled() is enabled


def test_keys_are_made_once_and_stay_apart() -> None:
    """Keys that look alike from afar: of one length, with the same first, middle and last character; long ones, and none at all."""
    alike = [f"k{n:04}x{n:04}k" for n in range(300)] + ["", "k", "k" * 33, "k" * 300, "\xe9t\xe9", "\U0001f600"]
    rows: list[Any] = [{key: n for n, key in enumerate(alike)} for _ in range(3)]
    loaded = farexec.loads(farexec.dumps(rows))
    assert loaded == rows
    assert [list(row) for row in loaded] == [alike] * 3
    first, second = farexec.loads(farexec.dumps([dict.fromkeys("ab"), *[{"some key": n} for n in range(50)]]))[-2:]
    assert next(iter(first)) is next(iter(second))


@pytest.mark.parametrize("key", [b"\xff", b"\xed\xa0\x80", b"a\xff" * 20])
def test_strings_that_are_not_utf8_are_refused(key: bytes) -> None:
    """Wherever they stand: a str, and a key of a dict."""
    text = b"N" + len(key).to_bytes(4, "big") + key
    for data in (b"\x02" + text + b"Q", b"\x02J" + text + b"LPQ"):
        with pytest.raises(farexec.LoadError, match="not UTF-8"):
            farexec.loads(data)
