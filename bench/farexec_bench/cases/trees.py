"""Trees of files to other places on this machine: RSync through gateways, and the program that it is named after.

Gateways are there before the time is taken, as they are in a program that sends its tree and then works; the `rsync` program
starts its own processes, which takes it some milliseconds. The files are kept in memory where that can be had: a disk takes longer
to make a file than anybody who asks for it, and not always the same time.
"""

from __future__ import annotations

import filecmp
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..casework import Figures, Run, Unavailable, case, clock
from .starting import check

MIB = 2**20

TARGETS = 4
"""How many places the large file is sent to."""

FILES_IN_FOLDER = 100
FILE_SIZE = 1000

MEMORY = "/dev/shm"
"""Where Linux has files in memory."""

Send = Callable[[Path, Sequence[Path]], None]


@case("tree", "execnet", "farexec", "rsync")
def tree(run: Run) -> Figures:
    """Small files, `size` of them, to a place that has nothing; and again, when nothing changed."""
    sent, unchanged = [], []
    room = run.size * FILE_SIZE * (run.samples + 2)
    with tempfile.TemporaryDirectory(dir=place_for(room)) as name, sender(run, 1) as send:
        source = Path(name, "source")
        plant(source, run.size)
        for number in range(run.samples + 1):
            target = Path(name, f"target-{number}")
            start = clock()
            send(source, [target])
            there = clock()
            send(source, [target])
            unchanged.append(clock() - there)
            sent.append(there - start)
            check(files_of(target) == files_of(source), "all files arrive")
    return {"seconds": sent[1:], "unchanged": unchanged[1:]}  # the first was to warm up


@case("changed-byte", "execnet", "farexec", "rsync")
def changed_byte(run: Run) -> Figures:
    """A file of `size` MiB to four places that have it, after one of its bytes changed."""
    randomness = random.Random(1)
    seconds = []
    room = run.size * MIB * (TARGETS + 1)
    with tempfile.TemporaryDirectory(dir=place_for(room)) as name, sender(run, TARGETS) as send:
        source = Path(name, "source")
        targets = [Path(name, f"target-{number}") for number in range(TARGETS)]
        source.mkdir()
        data = source / "data"
        with data.open("wb") as file:
            for _ in range(run.size):
                file.write(randomness.randbytes(MIB))
        for target in targets:
            shutil.copytree(source, target)
        modified = data.stat().st_mtime
        for number in range(run.samples):
            with data.open("r+b") as file:
                file.seek(run.size * MIB // 2 + number)
                (byte,) = file.read(1)
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte ^ 1]))
            modified += 10  # more than the coarsest of file systems rounds off
            os.utime(data, (modified, modified))
            start = clock()
            send(source, targets)
            seconds.append(clock() - start)
        for target in targets:
            check(filecmp.cmp(data, target / "data", shallow=False), "the file arrives")
    return {"seconds": seconds}


@contextmanager
def sender(run: Run, count: int) -> Iterator[Send]:
    """What sends a tree to `count` places."""
    if run.library == "rsync":
        if shutil.which("rsync") is None:
            raise Unavailable("there is no rsync program")
        yield by_program
    else:
        with run.group(count) as group:

            def by_gateways(source: Path, targets: Sequence[Path]) -> None:
                rsync = run.module.RSync(source, verbose=False)
                for gateway, target in zip(group, targets, strict=True):
                    rsync.add_target(gateway, target)
                rsync.send()

            yield by_gateways


def by_program(source: Path, targets: Sequence[Path]) -> None:
    """The rsync program, one for each target, all at once; by deltas, as it does between machines."""
    command = ["rsync", "--archive", "--no-whole-file", f"{source}/"]
    running = [subprocess.Popen([*command, str(target)]) for target in targets]
    statuses = [process.wait() for process in running]
    check(not any(statuses), "rsync succeeds")


def place_for(room: int) -> str | None:
    """Where to keep files: in memory, if there is room for several times as much as they need; None for the usual place."""
    try:
        return MEMORY if shutil.disk_usage(MEMORY).free > 5 * room else None
    except OSError:
        return None


def plant(root: Path, count: int) -> None:
    """Makes a tree of `count` small files, each different."""
    for number in range(count):
        folder = root / f"folder-{number // FILES_IN_FOLDER}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file-{number}").write_bytes(f"{number:8}".encode() * (FILE_SIZE // 8))


def files_of(root: Path) -> dict[str, bytes]:
    """All files of a tree, with what is in them."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
