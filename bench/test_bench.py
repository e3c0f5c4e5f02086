"""Tests of the harness itself: its arithmetic, and that cases that hang, fail or leave something are told of.

Run by ``python -m pytest bench``. The cases are small programs of this file's own, so no library is needed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from farexec_bench import drawing, instructions, report, runner
from farexec_bench.casework import cases
from farexec_bench.contenders import EXECNET, FAREXEC, PIPE, Contender
from farexec_bench.goals import MEBIBYTES_PER_SECOND, costing, faster, judge, quartiles, within
from farexec_bench.machine import ROOT
from farexec_bench.measuring import Settings, heats_of
from farexec_bench.pictures import COLOURS, PICTURES, Picture, bytes_of, microseconds_of
from farexec_bench.rows import ROWS
from farexec_bench.runner import Outcome

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")


def python(program: str) -> list[str]:
    """A command that runs `program`."""
    return [sys.executable, "-c", program]


def test_a_goal_of_being_faster_is_judged_by_the_rate() -> None:
    verdict = judge(faster(FAREXEC, 8, EXECNET), own=[1.0, 1.0, 1.0], rival=[10.0, 9.0, 11.0])
    assert verdict is not None
    assert (verdict.met, verdict.certain) == (True, True)
    assert verdict.ratio == pytest.approx(10)
    assert (verdict.low, verdict.high) == (pytest.approx(9.4737, rel=1e-3), pytest.approx(10.4762, rel=1e-3))


def test_a_goal_of_a_cost_is_judged_by_the_cost() -> None:
    verdict = judge(costing(FAREXEC, 2, PIPE), own=[3.0], rival=[1.0])
    assert verdict is not None
    assert (verdict.met, verdict.ratio) == (False, 3.0)


def test_turns_that_disagree_make_a_verdict_uncertain() -> None:
    verdict = judge(costing(FAREXEC, 2, PIPE), own=[1.0, 1.9, 2.5, 3.0, 1.0], rival=[1.0] * 5)
    assert verdict is not None
    assert (verdict.met, verdict.certain) == (True, False)


def test_costs_of_nothing_are_compared() -> None:
    verdict = judge(within(FAREXEC, 0, "0 threads"), own=[0.0, 0.0], rival=())
    assert verdict is not None
    assert (verdict.met, verdict.certain) == (True, True)


def test_without_figures_there_is_no_verdict() -> None:
    assert judge(faster(FAREXEC, 8, EXECNET), own=[], rival=[1.0]) is None
    assert judge(faster(FAREXEC, 8, EXECNET), own=[1.0], rival=[]) is None


def test_units_and_quartiles() -> None:
    assert MEBIBYTES_PER_SECOND.show(0.002) == 500
    assert quartiles([7.0]) == (7.0, 7.0)
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 4.0)


def test_each_row_has_a_case_for_each_contender_and_a_name_of_its_own() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    for row in ROWS:
        for contender in row.contenders:
            assert contender.program or (row.case or row.name, contender.library) in cases()
        for goal in row.goals:
            assert goal.contender in row.contenders
            assert goal.rival is None or goal.rival in row.contenders


def test_each_picture_has_a_case_and_a_colour_of_its_own_for_each_contender() -> None:
    assert len({picture.name for picture in PICTURES}) == len(PICTURES)
    for picture in PICTURES:
        colours = [COLOURS[contender] for contender in picture.contenders]
        assert len(set(colours)) == len(colours) and set(colours) <= set(drawing.COLOURS)
        for contender in picture.contenders:
            assert (picture.case, contender.library) in cases()


def test_pictures_share_what_rows_measure() -> None:
    (start_up,) = (picture for picture in PICTURES if picture.name == "start-up")
    heats = heats_of([*ROWS, *start_up.rows(quick=False)], Settings())
    assert heats["picture-start-up-32"] is heats["start-32"]
    assert heats["picture-start-up-16"] is heats["start-16"]


def measured(picture: Picture, without: Contender | None = None) -> report.Plot:
    """A picture of figures that are made up: contender after contender is a tenth slower, and cost is in proportion to size."""
    rows = picture.rows(quick=False)
    heats = heats_of(rows, Settings())
    for row in rows:
        for place, contender in enumerate(picture.contenders):
            cost = 1e-6 * row.size * (1 + place / 10)
            outcome = Outcome({"seconds": [cost]}) if contender != without else Outcome(unavailable="not here")
            heats[row.name].outcomes[contender].append(outcome)
    return report.Plot(picture, report.entries_of(rows, heats))


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_a_picture_shows_every_contender_that_has_figures(picture: Picture) -> None:
    *_, missing, last = picture.contenders
    drawn = measured(picture, without=missing).draw()
    assert drawn is not None
    root = ElementTree.fromstring(drawn)
    words = ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {picture.title, last.name, picture.contenders[0].name} <= set(words)
    assert missing.name not in words
    if len(picture.sizes) == 1:
        assert any(word.endswith(f" {picture.unit.name}") for word in words)
    else:
        assert {picture.unit.name, picture.x_name, *map(picture.x_text, picture.sizes)} <= set(words)
    for element in root.iter():
        for place in ("x", "x1", "x2", "cx"):
            assert 0 <= float(element.get(place, "0")) <= drawing.WIDTH


def test_a_picture_of_nothing_is_not_drawn() -> None:
    rows = PICTURES[0].rows(quick=False)
    assert report.Plot(PICTURES[0], report.entries_of(rows, heats_of(rows, Settings()))).draw() is None


def test_the_document_has_the_figures_of_its_pictures() -> None:
    told = report.plot_markdown(measured(PICTURES[0], without=EXECNET), "pictures")
    lines = told.splitlines()
    assert lines[0] == f"![{PICTURES[0].title}](pictures/start-up.svg)"
    assert "| execnet | - | - | - | - | - | - | - |" in lines
    assert "| farexec spawn | 0.0013 | 0.0026 | 0.0052 | 0.0104 | 0.0208 | 0.0416 | 0.0832 |" in lines


def test_labels_keep_their_order_and_their_distance() -> None:
    gap = drawing.LABEL_GAP
    assert drawing.spread_out([50.0, 48.0, 100.0], 0, 200) == [48.0 + gap, 48.0, 100.0]
    assert drawing.spread_out([99.0, 98.0], 0, 100) == [100.0, 100.0 - gap]


def test_axes_name_round_values() -> None:
    assert drawing.round_values(0.5, 3000) == [1, 10, 100, 1000]
    assert drawing.round_values(3, 60) == [5, 10, 20, 50]
    assert [bytes_of(size) for size in (1, 4096, 2**20, 2**26)] == ["1 B", "4 KiB", "1 MiB", "64 MiB"]
    assert [microseconds_of(size) for size in (10, 100_000)] == ["10 us", "100 ms"]


def test_rows_of_one_case_share_a_heat() -> None:
    heats = heats_of(ROWS, Settings())
    assert heats["start-32"] is heats["terminate-32"]
    assert heats["ints-in"] is not heats["ints-out"]


def test_figures_are_the_last_line_of_any_program() -> None:
    told = json.dumps({"figures": {"seconds": [1, 2.5]}, "facts": {"worker": "native"}})
    outcome = runner.run(python(f"print('chatter'); print({told!r})"), limit=20)
    assert outcome.problem is None
    assert outcome.figures == {"seconds": [1.0, 2.5]}
    assert outcome.facts == {"worker": "native"}


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("raise ValueError('broken')", "exit status 1: ValueError: broken"),
        ("import os; os.kill(os.getpid(), 9)", "signal 9: nothing on stderr"),
        ("print('42')", "printed no figures"),
        ("pass", "printed no figures"),
    ],
)
def test_a_failure_has_its_reason(program: str, problem: str) -> None:
    outcome = runner.run(python(program), limit=20)
    assert outcome.problem is not None and outcome.problem.startswith(problem)


def test_a_program_that_is_not_there_is_a_problem() -> None:
    outcome = runner.run(["/no/such/program"], limit=20)
    assert outcome.problem is not None and outcome.problem.startswith("could not start")


SLEEPER = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], "
DETACHED = SLEEPER + "start_new_session=True)\n"


@linux_only
def test_a_case_that_hangs_is_killed_with_what_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_TEST", mark := f"hangs-{os.getpid()}")
    start = time.monotonic()
    outcome = runner.run(python(DETACHED + "import time; time.sleep(60)"), limit=1)
    assert outcome.problem == "killed after 1 s; nothing on stderr"
    assert time.monotonic() - start < 20
    assert alive(mark) == []


@linux_only
def test_what_a_case_leaves_behind_is_told_and_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LEAVE_TIME", 0.5)
    monkeypatch.setenv("BENCH_TEST", mark := f"leaves-{os.getpid()}")
    outcome = runner.run(python(DETACHED + """print('{"figures": {"seconds": [1]}}')"""), limit=20)
    assert outcome.problem == "left 1 processes behind"
    assert outcome.figures == {"seconds": [1.0]}
    assert alive(mark) == []


@linux_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_harness_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    program = tmp_path / "harness.py"
    program.write_text(
        f"import signal, sys\nsys.path.insert(0, {str(ROOT / 'bench')!r})\n"
        "from farexec_bench import cli, runner\n"
        "signal.signal(signal.SIGTERM, cli.interrupt)\n"
        "print('ready', flush=True)\n"
        f"runner.run([sys.executable, '-c', {DETACHED + 'import time; time.sleep(60)'!r}], 60)\n"
    )
    mark = f"interrupted-{number}-{os.getpid()}"
    harness = subprocess.Popen(
        [sys.executable, str(program)],
        env={**os.environ, "BENCH_TEST": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with harness:
        assert harness.stdout is not None and harness.stdout.readline() == b"ready\n"
        deadline = time.monotonic() + 20
        while len(alive(mark)) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        harness.send_signal(number)
        assert harness.wait(20) != 0
    assert alive(mark) == []


def alive(mark: str) -> list[str]:
    """The processes that have BENCH_TEST=`mark` in their environment, this one left out."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) != os.getpid():
            try:
                if f"BENCH_TEST={mark}".encode() in (folder / "environ").read_bytes():
                    found.append(folder.name)
            except OSError:
                pass
    return found


def test_what_costs_more_instructions_than_the_baseline_is_found() -> None:
    """Beyond the tolerance, and with the tools of the baseline only."""
    one = instructions.Workload("rust-one", "a thing", 1, tolerance=10)
    baseline = {"with": {"rust": "1.0", "machine": "x"}, "counted": {"rust-one": 100.0}}
    tools = {"rust": "1.0", "machine": "x"}

    def worse(counted: float, tolerance: float | None = None, **other: str) -> list[str]:
        return instructions.report([one], {"rust-one": counted}, baseline, {**tools, **other}, tolerance)

    assert worse(109.0) == []
    assert worse(111.0) == ["rust-one"]
    assert worse(109.0, tolerance=5) == ["rust-one"]
    assert worse(111.0, rust="2.0") == []
    assert worse(111.0, machine="y") == []
    assert worse(90.0) == []


def test_every_workload_has_a_baseline() -> None:
    baseline = json.loads(instructions.BASELINE.read_text())
    assert list(baseline["counted"]) == [one.name for one in instructions.WORKLOADS]
