"""Tells what was measured: as tables, as JSON, and as a document from the template beside this package."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .contenders import Contender
from .goals import Goal, Unit, Verdict, judge, quartiles
from .measuring import Heat
from .pictures import Picture, draw
from .rows import Row

TEMPLATE = Path(__file__).resolve().parents[1] / "BENCHMARKS.template.md"


@dataclass(frozen=True)
class Entry:
    """One row's figures of one contender."""

    row: Row
    contender: Contender
    costs: list[float]
    problems: list[str]
    remarks: list[str]
    verdicts: list[tuple[Goal, Verdict | None]]


def entries_of(rows: Sequence[Row], heats: Mapping[str, Heat]) -> list[Entry]:
    """All entries, in the order of the rows."""
    entries = []
    for row in rows:
        heat = heats[row.name]
        for contender in row.contenders:
            costs = heat.costs(contender, row.figure)
            remarks = heat.remarks(contender)
            problems = heat.problems(contender)
            if not heat.outcomes[contender]:
                remarks.append("not run")
            elif not costs and not remarks and not problems:
                remarks.append("cannot be measured on this system")
            verdicts = [
                (goal, judge(goal, costs, heat.costs(goal.rival, row.figure) if goal.rival else ()))
                for goal in row.goals
                if goal.contender == contender
            ]
            entries.append(Entry(row, contender, costs, problems, remarks, verdicts))
    return entries


@dataclass(frozen=True)
class Plot:
    """What a picture shows: an entry for each of its sizes and contenders."""

    picture: Picture
    entries: list[Entry]

    @property
    def rows(self) -> list[Row]:
        """The sizes that were measured."""
        return list(dict.fromkeys(entry.row for entry in self.entries))

    def draw(self) -> str | None:
        """The picture as SVG; None if there is nothing to show."""
        costs = {(entry.row.name, entry.contender): entry.costs for entry in self.entries}
        return draw(self.picture, self.rows, costs)

    def grid(self) -> list[list[str]]:
        """Its figures: a line for each contender, a column for each size; the first line names the sizes."""
        sizes = [self.picture.x_text(row.size) for row in self.rows]
        lines = [[self.picture.unit.name, *(sizes if len(sizes) > 1 else ["median"])]]
        for contender in self.picture.contenders:
            own = [entry.costs for entry in self.entries if entry.contender == contender]
            lines.append([contender.name, *(median_of(self.picture.unit, costs) for costs in own)])
        return lines


def median_of(unit: Unit, costs: Sequence[float]) -> str:
    """The median in its unit, or a dash."""
    return rounded(shown(unit, statistics.median(costs))) if costs else "-"


def plot_table(plot: Plot) -> str:
    """The figures of a picture for a terminal."""
    grid = plot.grid()
    widths = [max(len(line[column]) for line in grid) for column in range(len(grid[0]))]
    lines = [f"{plot.picture.row_name}: {plot.picture.title}"]
    for name, *figures in grid:
        columns = [figure.rjust(width) for figure, width in zip(figures, widths[1:], strict=True)]
        lines.append("  ".join(["", name.ljust(widths[0]), *columns]))
    notes = [(entry, f"ERROR: {problem}") for entry in plot.entries for problem in entry.problems]
    notes += [(entry, remark) for entry in plot.entries for remark in entry.remarks]
    lines += [f"    {entry.contender.name}, {plot.picture.x_text(entry.row.size)}: {note}" for entry, note in notes]
    return "\n".join(lines)


def plot_markdown(plot: Plot, folder: str) -> str:
    """A picture with its figures, for the document."""
    head, *lines = plot.grid()
    cells = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join(
        [
            f"![{plot.picture.title}]({folder}/{plot.picture.name}.svg)\n",
            f"<details><summary>The figures of this picture, in {plot.picture.unit.name}</summary>\n",
            "| " + " | ".join(["contender", *head[1:]]) + " |",
            "| --- |" + " ---: |" * (len(head) - 1),
            *cells,
            "\n</details>",
        ]
    )


def table(entries: Sequence[Entry]) -> str:
    """The table for a terminal."""
    all_cells = [cells(entry) for entry in entries]
    widths = [max((len(line[column]) for lines in all_cells for line in lines), default=0) for column in range(6)]
    lines = []
    previous = None
    for entry, rows in zip(entries, all_cells, strict=True):
        if entry.row is not previous:
            pinned = ", pinned to one processor" if entry.row.pinned else ""
            lines.append(f"\n{entry.row.name}: {entry.row.what}{pinned}")
            previous = entry.row
        for row in rows:
            name, median, *others = row
            columns = [name.ljust(widths[0]), median.rjust(widths[1])]
            columns += [cell.ljust(width) for cell, width in zip(others, widths[2:], strict=True)]
            lines.append(("  " + "  ".join(columns)).rstrip())
        notes = [f"ERROR: {problem}" for problem in entry.problems] + entry.remarks
        lines += [" " * (widths[0] + 4) + note for note in notes]
    return "\n".join(lines).lstrip("\n")


def summary(entries: Sequence[Entry]) -> str:
    """One line: how many goals are met, and how many contenders failed."""
    verdicts = [verdict for entry in entries for _, verdict in entry.verdicts]
    met = sum(verdict is not None and verdict.met for verdict in verdicts)
    open_ones = sum(verdict is None for verdict in verdicts)
    failed = sum(bool(entry.problems) for entry in entries)
    return (
        f"goals: {met} met, {len(verdicts) - met - open_ones} not met, {open_ones} without figures;"
        f" entries with errors: {failed}"
    )


def as_json(entries: Sequence[Entry], heats: Mapping[str, Heat], about: Mapping[str, Any]) -> dict[str, Any]:
    """All of it, with every sample. Figures are costs: seconds for one operation, bytes, threads."""
    rows = []
    for entry in entries:
        heat = heats[entry.row.name]
        rows.append(
            {
                "row": entry.row.name,
                "what": entry.row.what,
                "unit": entry.row.unit.name,
                "pinned": entry.row.pinned,
                "size": heat.size,
                "contender": entry.contender.name,
                "median": shown(entry.row.unit, statistics.median(entry.costs)) if entry.costs else None,
                "samples": [
                    outcome.figures.get(entry.row.figure, []) for outcome in heat.outcomes[entry.contender]
                ],
                "facts": [outcome.facts for outcome in heat.outcomes[entry.contender]],
                "problems": entry.problems,
                "remarks": entry.remarks,
                "goals": [
                    {"text": goal.text, "verdict": asdict(verdict) if verdict else None}
                    for goal, verdict in entry.verdicts
                ],
            }
        )
    return {**about, "rows": rows}


def as_markdown(entries: Sequence[Entry], plots: Sequence[Plot], about: Mapping[str, Any], folder: str) -> str:
    """The document: the template with the pictures in `folder`, the tables and what was measured on."""
    parts = []
    previous = None
    for entry in entries:
        if entry.row is not previous:
            pinned = " (pinned to one processor)" if entry.row.pinned else ""
            parts.append(f"\n### {entry.row.what[0].upper()}{entry.row.what[1:]}{pinned}\n")
            parts.append(
                "| contender | median | spread | goal | reached | |\n| --- | ---: | --- | --- | --- | --- |"
            )
            previous = entry.row
        rows = cells(entry)
        notes = [f"error: {problem}" for problem in entry.problems] + entry.remarks
        rows[0][-1] = "; ".join(filter(None, [rows[0][-1], *notes]))
        parts += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    told = [f"- {name}: {value}" for name, value in {**about["machine"], **about["versions"]}.items()]
    told += [f"- {remark}" for remark in about["remarks"]]
    text = TEMPLATE.read_text()
    values = {
        "date": about["date"],
        "revision": about["revision"] or "unknown",
        "about": "\n".join(told),
        "summary": summary(entries),
        "pictures": "\n\n".join(plot_markdown(plot, folder) for plot in plots),
        "tables": "\n".join(parts).strip(),
    }
    for name, value in values.items():
        text = text.replace("{{" + name + "}}", value)
    return text


def cells(entry: Entry) -> list[list[str]]:
    """The lines of one entry, one for each goal: name, median, spread, goal, reached, met or not."""
    name = entry.contender.name
    if entry.costs:
        median = f"{rounded(shown(entry.row.unit, statistics.median(entry.costs)))} {entry.row.unit.name}"
        ends = sorted(shown(entry.row.unit, cost) for cost in quartiles(entry.costs))
        spread = " to ".join(rounded(end) for end in ends)
    else:
        median = spread = "-"
    lines = [[name, median, spread, goal.text, *reached(verdict)] for goal, verdict in entry.verdicts]
    for line in lines[1:]:
        line[:3] = ["", "", ""]
    return lines or [[name, median, spread, "", "", ""]]


def reached(verdict: Verdict | None) -> tuple[str, str]:
    """A verdict in words: the ratio with its spread, and met or not."""
    if verdict is None:
        return "", "no figures"
    ratio = ""
    if verdict.ratio is not None and verdict.low is not None and verdict.high is not None:
        ratio = f"{rounded(verdict.ratio)} x ({rounded(verdict.low)} to {rounded(verdict.high)})"
    return ratio, ("met" if verdict.met else "NOT met") + ("" if verdict.certain else ", within the spread")


def shown(unit: Unit, cost: float) -> float:
    """A cost in its unit; a cost of nothing has no rate."""
    try:
        return unit.show(cost)
    except ZeroDivisionError:
        return float("inf")


def rounded(value: float) -> str:
    """Three digits that count, and no exponent."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 or value == 0 else f"{value:.1g}"
