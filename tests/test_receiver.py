"""The far end of rsync, in a real worker, against a coordinator that sends it anything: it ends, it leaves no part of a file, and it
touches nothing outside of its destination. It is in a sandbox, which can write nowhere else than in the folder of its test: what it must
not do, it would do for real."""

import itertools
import os
import pathlib
import shlex
import struct
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import farexec
import servers

RECEIVER = pathlib.Path(farexec.__file__).with_name("receiver.py").read_text()
START = """
arguments, over = channel.receive()
try:
    receive(channel, *arguments)
finally:
    over.send(None)
"""

# Names that a tree can have, parents first, and others: some are in no directory of it, some lead out of the destination.
PROPER = [b"", b"a", b"a/b", b"a/b/c", b"d", b"link", b"\xff"]
ODD = [b"..", b"a/..", b"a/../x", b".", b"../outside", b"/mnt", b"/mnt/kept", b"a//b", b"a/b/", b"link/a", b"x/y", b""]
NUMBERS = st.integers(0, 6) | st.integers(0, 2**32 - 1)
TIMES = st.integers(-(2**63), 2**63 - 1)


def packed(code, numbers):
    return struct.pack(f"<{len(numbers)}{code}", *numbers)


@st.composite
def batches(draw):
    """A batch of the tree, most of the time with as many of everything as belong together."""
    kind = st.sampled_from("dddflik")
    entries, directories = [], {b""}
    for name in PROPER:
        if name.rpartition(b"/")[0] in directories and (not name or draw(st.booleans())):
            entries.append((draw(kind) if name else "d", name))
            if entries[-1][0] == "d":
                directories.add(name)
    if draw(st.booleans()):
        entries.insert(draw(st.integers(1, len(entries))), (draw(kind), draw(st.sampled_from(ODD))))
    kinds = "".join(kind for kind, _ in entries).encode()
    count = len(entries)
    modes = draw(st.lists(st.integers(0, 0o777), min_size=count, max_size=count))
    sizes = draw(st.lists(st.sampled_from([0, 1, 5, 70_000, 2**63]), min_size=count, max_size=count))
    times = draw(st.lists(TIMES, min_size=count, max_size=count))
    targets = draw(st.lists(st.sampled_from([b"a", b"../outside", b"/etc/passwd", b"link"]), min_size=count, max_size=count))
    batch = ["tree", kinds, b"".join(name + b"\0" for _, name in entries), packed("I", modes), packed("Q", sizes), packed("q", times)]
    batch.append(b"".join(target + b"\0" for target in targets))
    if draw(st.integers(0, 4)) == 0:
        batch[draw(st.integers(1, 6))] = draw(st.binary(max_size=12))
    return batch


def anything():
    plain = st.none() | st.integers(-5, 5) | st.text(max_size=3) | st.binary(max_size=3)
    return plain | st.lists(plain, max_size=3)


def steps():
    numbers = st.lists(NUMBERS, max_size=4)
    return st.one_of(
        batches(),
        st.just(["listed"]),
        st.just(["end"]),
        st.just(["commit"]),
        st.just(["abort"]),
        st.builds(lambda number, time: ["begin", number, time], NUMBERS, TIMES),
        st.builds(lambda number, time: ["same", number, time], NUMBERS, TIMES),
        st.builds(lambda some: ["files", packed("I", some), packed("q", [1] * len(some)), [b"content"] * len(some)], numbers),
        st.builds(lambda offset, length: ["copy", offset, length], st.integers(-3, 2**40), st.integers(-3, 2**40)),
        st.builds(lambda path: ["take", path, 1, 1], st.sampled_from([b"/etc/passwd", b"/nothing", b"/mnt"])),
        st.binary(max_size=20),
        anything(),
    )


def sequences():
    whole = st.builds(lambda tree, rest: [tree, ["listed"], *rest], batches(), st.lists(steps(), max_size=8))
    return whole | st.lists(steps(), max_size=8)


def everything_below(folder):
    return {
        path: (path.lstat().st_mode, path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else None) for path in folder.rglob("*")
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sandbox")


@pytest.fixture(scope="module")
def worker(folder):
    servers.need("bwrap")
    sandbox = [servers.executable("bwrap"), "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-pid", "--die-with-parent"]
    sandbox += ["--bind", str(folder), str(folder), "--tmpfs", "/mnt"]
    with farexec.Group([f"command={shlex.join(sandbox)}//python={sys.executable}"]) as group:
        readonly = group[0].remote_exec("import os; channel.send(not os.access('/', os.W_OK)); os.mkdir('/mnt/kept')")
        assert readonly.receive(20)
        yield group[0]


@pytest.fixture(scope="module")
def seen(worker):
    """A channel that tells what is in the sandbox beside the folder of the test."""
    return worker.remote_exec(
        "import os\nfor _ in channel: channel.send([(path, os.stat(path).st_mode & 0o777, names) for path, _, names in os.walk('/mnt')])"
    )


COUNTER = itertools.count()


@settings(max_examples=300, deadline=None)
@given(items=sequences(), delete=st.booleans(), here=st.booleans())
def test_whatever_it_is_sent(worker, seen, folder, items, delete, here):
    here_folder = folder / str(next(COUNTER))
    outside, destination = here_folder / "outside", here_folder / "destination"
    (outside / "a").mkdir(parents=True)
    (outside / "a" / "b").write_text("not yours")
    destination.mkdir()
    (destination / "a").mkdir()
    (destination / "d").write_bytes(b"x" * 70_000)
    (destination / "link").symlink_to(outside)
    before = everything_below(outside)

    channel = worker.remote_exec(RECEIVER + START)
    over = worker.newchannel()
    channel.send(((os.fsencode(destination), delete, here), over))
    try:
        for item in items:
            channel.send(item)
    except OSError:
        pass  # it has given up
    channel.close()
    over.receive(20)

    seen.send(None)
    assert seen.receive(20) == [("/mnt", 0o755, []), ("/mnt/kept", 0o755, [])]
    assert everything_below(outside) == before
    assert sorted(path.name for path in here_folder.iterdir()) == ["destination", "outside"]
    assert not [path for path in destination.rglob("*") if path.name.startswith(".farexec-")]
