"""The command line of the harness: reads the options, has the rows measured, and hands the figures on.

Exit status: 0, all cases ran (goals that are not met do not count: figures of a shared machine prove
nothing); 1, a case failed, hung or left processes behind, or an interpreter is missing; 2, wrong arguments;
130, interrupted.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import environments, machine, report
from .environments import EnvironmentProblem
from .measuring import CASE_LIMIT, Settings, heats_of, measure
from .pictures import PICTURES, Picture
from .rows import ROWS, Row

PICTURES_FOLDER = "pictures"
"""Where the pictures of a document are, beside it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the harness."""
    parser = make_parser()
    given = parser.parse_args(arguments)
    rows = [row for row in ROWS if matches(row.name, given.rows)]
    pictures = [picture for picture in PICTURES if matches(picture.row_name, given.rows)]
    if not rows and not pictures:
        parser.error(f"no row is called {given.rows!r}; --list shows them")
    if given.list:
        told = [(row.name, row.what) for row in rows] + [(one.row_name, one.title) for one in pictures]
        width = max(len(name) for name, _ in told)
        print("\n".join(f"{name:<{width}}  {what}" for name, what in told))
        return 0
    if given.markdown and (given.quick or given.ours != "farexec"):
        parser.error("--markdown is for the real figures, without --quick and --ours")
    signal.signal(signal.SIGTERM, interrupt)
    settings = Settings(given.quick, given.repetitions, given.ours, given.limit)
    try:
        measured: list[Row | Picture] = [*rows, *pictures]
        needed = {contender.environment for one in measured for contender in one.contenders}
        found = environments.find(given.execnet, given.ours, needed)
        return compare(rows, pictures, found, settings, given)
    except EnvironmentProblem as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="bench/run.py",
        description="Measures farexec beside execnet and the standard library, in one run on one machine.",
        epilog=(__doc__ or "").partition("\n\n")[2],
    )
    add = parser.add_argument
    add(
        "--quick",
        action="store_true",
        help="small sizes, once each: shows that all cases run, measures nothing",
    )
    add(
        "--rows",
        metavar="PATTERN",
        default="*",
        help="only these rows: names with * and ?, separated by commas",
    )
    add("--list", action="store_true", help="show the rows and end")
    add(
        "--repetitions",
        type=positive,
        metavar="N",
        help="how often each case is run (default: what its row says)",
    )
    add(
        "--limit",
        type=float,
        default=CASE_LIMIT,
        metavar="SECONDS",
        help="when a case hangs (default: %(default)g)",
    )
    add(
        "--execnet",
        metavar="PYTHON",
        help="interpreter of an environment with execnet (default: one is made)",
    )
    add("--ours", default="farexec", choices=("farexec", "execnet"), help="the library that runs as farexec")
    add("--json", type=Path, metavar="PATH", help="write all samples to a file")
    add(
        "--markdown",
        type=Path,
        metavar="PATH",
        help="write the document, such as docs/BENCHMARKS.md, and its pictures into the folder pictures beside it",
    )
    add("--pictures", type=Path, metavar="FOLDER", help="write the pictures only")
    return parser


def positive(text: str) -> int:
    """A number of at least one."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("has to be at least 1")
    return number


def matches(name: str, patterns: str) -> bool:
    """Whether one of the patterns is for this name."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns.split(","))


def interrupt(*_: object) -> None:
    """Takes a termination as a Ctrl-C, so that the running case is ended with us."""
    raise KeyboardInterrupt


def compare(
    rows: list[Row],
    pictures: list[Picture],
    found: environments.Environments,
    settings: Settings,
    given: argparse.Namespace,
) -> int:
    """Measures, prints the tables and writes the files."""
    about = describe(found, settings)
    for library, reason in found.missing.items():
        print(f"{library} does not compete: {reason}", file=sys.stderr)
    sizes = {picture: picture.rows(settings.quick) for picture in pictures}
    heats = heats_of([*rows, *(row for points in sizes.values() for row in points)], settings)
    different = list({id(heat): heat for heat in heats.values()}.values())
    start = time.monotonic()
    interrupted = False
    try:
        measure(different, found, settings)
    except KeyboardInterrupt:
        interrupted = True
    about["seconds"] = round(time.monotonic() - start, 1)
    entries = report.entries_of(rows, heats)
    plots = [report.Plot(picture, report.entries_of(points, heats)) for picture, points in sizes.items()]
    everything = [*entries, *(entry for plot in plots for entry in plot.entries)]
    print(heading(about))
    print("\n\n".join(filter(None, [report.table(entries), *map(report.plot_table, plots)])))
    print(f"\n{report.summary(everything)}; {about['seconds']:g} s")
    if interrupted:
        raise KeyboardInterrupt
    if given.json:
        given.json.write_text(json.dumps(report.as_json(everything, heats, about), indent=1) + "\n")
    if given.markdown:
        given.markdown.write_text(report.as_markdown(entries, plots, about, PICTURES_FOLDER))
        write_pictures(plots, given.markdown.parent / PICTURES_FOLDER)
    if given.pictures:
        write_pictures(plots, given.pictures)
    return 1 if any(entry.problems for entry in everything) else 0


def write_pictures(plots: list[report.Plot], folder: Path) -> None:
    """Writes all pictures that have something to show."""
    folder.mkdir(parents=True, exist_ok=True)
    for plot in plots:
        if drawn := plot.draw():
            (folder / f"{plot.picture.name}.svg").write_text(drawn)


def describe(found: environments.Environments, settings: Settings) -> dict[str, Any]:
    """What was measured on what."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "revision": machine.revision(),
        "machine": machine.describe(),
        "versions": found.versions,
        "remarks": list(filter(None, (machine.busy(), machine.unpinned()))),
        "quick": settings.quick,
        "ours": settings.ours,
    }


def heading(about: dict[str, Any]) -> str:
    """What stands above the table."""
    lines = [f"{name}: {value}" for name, value in {**about["machine"], **about["versions"]}.items()]
    if about["ours"] != "farexec":
        lines.append(f"{about['ours']} runs in farexec's place: this only shows that the cases work")
    if about["quick"]:
        lines.append("quick: the sizes are too small for the figures to mean anything")
    return "\n".join([*lines, *about["remarks"]]) + "\n"
