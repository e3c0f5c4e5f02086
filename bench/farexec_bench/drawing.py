"""Draws charts as SVG: lines over logarithmic axes, and bars. It knows nothing of what was measured.

The pictures bring their own background and change their colours with the reader's light or dark mode. Text stays text, so that
it can be searched and selected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

WIDTH = 780
EDGE = 24
LEFT = 76
RIGHT = 190
TOP = 92
PLOT_HEIGHT = 300
BOTTOM = 58
LABEL_GAP = 17
"""Pixels from one label at the end of a line to the next."""

BAR_NAMES = 160
BAR_VALUES = 70
BAR = 20
BAR_STEP = 34

FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"

COLOURS = {
    "blue": ("#2a78d6", "#5598e7"),
    "aqua": ("#159a6b", "#2db98a"),
    "red": ("#d63b3a", "#f07b7a"),
    "violet": ("#6a4fc9", "#a598f2"),
    "amber": ("#b97a00", "#e0a52c"),
    "pink": ("#cf4f85", "#ea86b1"),
    "brown": ("#8a5a3c", "#c9a48a"),
    "grey": ("#6f6e69", "#a9a8a1"),
}
"""Each in light mode and in dark mode."""

SURFACES = {"surface": ("#fcfcfb", "#1a1a19"), "grid": ("#e3e2dd", "#383835")}
INKS = {"ink": ("#1b1b1a", "#f4f3ee"), "quiet": ("#5d5c57", "#b9b8b0")}


@dataclass(frozen=True)
class Point:
    """Where a line passes, with the spread of what was measured there."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Series:
    """One line, or the only bar, of a name."""

    name: str
    colour: str
    points: Sequence[Point]
    strong: bool = False
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """What a picture says; `ticks` are the places of the x axis that have a text, in the order in which they stand there."""

    title: str
    remark: str
    unit: str
    series: Sequence[Series]
    x_name: str = ""
    ticks: Sequence[tuple[float, str]] = ()


def lines(chart: Chart) -> str:
    """A chart of lines; both axes are logarithmic."""
    points = [point for series in chart.series for point in series.points]
    x = scale([value for value, _ in chart.ticks], LEFT + 14, WIDTH - RIGHT - 10)
    bottom = TOP + PLOT_HEIGHT
    heights = sorted(height for point in points for height in (point.low, point.y, point.high))
    y = scale(heights, bottom - 12, TOP + 12)
    parts = [text(LEFT, TOP - 10, chart.unit, "quiet")]
    for value in round_values(heights[0], heights[-1]):
        parts.append(line(LEFT, y(value), WIDTH - RIGHT, y(value), "grid"))
        parts.append(text(LEFT - 9, y(value) + 4, number(value), "quiet", "end"))
    for value, label in chart.ticks:
        parts.append(line(x(value), bottom, x(value), bottom + 5, "grid"))
        parts.append(text(x(value), bottom + 20, label, "quiet", "middle"))
    parts.append(line(LEFT, bottom, WIDTH - RIGHT, bottom, "grid"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, bottom + 44, chart.x_name, "quiet", "middle"))
    drawn = [series for series in chart.series if series.points]
    ends = spread_out([y(series.points[-1].y) for series in drawn], TOP, bottom)
    for series, end in zip(drawn, ends, strict=True):
        places = [(x(point.x), y(point.y)) for point in series.points]
        path = " ".join(f"{across:.1f},{down:.1f}" for across, down in places)
        dash = ' stroke-dasharray="5 4"' if series.dashed else ""
        width = 3 if series.strong else 1.8
        parts.append(f'<g class="{series.colour}" stroke="currentColor" fill="currentColor">')
        parts.append(f'<polyline points="{path}" fill="none" stroke-width="{width}"{dash}/>')
        last_x, last_y = places[-1]
        parts.append(
            f'<polyline points="{last_x + 7:.1f},{last_y:.1f} {WIDTH - RIGHT + 8},{end:.1f} '
            f'{WIDTH - RIGHT + 14},{end:.1f}" fill="none" stroke-width="1" opacity="0.6"/>'
        )
        if not series.dashed:
            for point, (across, down) in zip(series.points, places, strict=True):
                parts.append(
                    f'<line x1="{across:.1f}" y1="{y(point.low):.1f}" x2="{across:.1f}" y2="{y(point.high):.1f}" stroke-width="1"/>'
                )
                parts.append(f'<circle cx="{across:.1f}" cy="{down:.1f}" r="{4 if series.strong else 3.2}" stroke="none"/>')
        parts.append("</g>")
        parts.append(text(WIDTH - RIGHT + 19, end + 4, series.name, "ink", bold=series.strong))
    return document(chart, parts, bottom + BOTTOM)


def bars(chart: Chart) -> str:
    """A chart of horizontal bars, which begin at zero."""
    rows = [(series, series.points[0]) for series in chart.series if series.points]
    left = EDGE + BAR_NAMES
    room = WIDTH - left - BAR_VALUES
    top = TOP - 26
    most = max(point.high for _, point in rows)
    parts = []
    for place, (series, point) in enumerate(rows):
        middle = top + BAR_STEP * (place + 0.5)
        length, low, high = (left + room * value / most for value in (point.y, point.low, point.high))
        parts.append(text(left - 10, middle + 4, series.name, "ink", "end", bold=series.strong))
        parts.append(
            f'<rect class="{series.colour}" fill="currentColor" x="{left}" y="{middle - BAR / 2:.1f}" '
            f'width="{max(1.0, length - left):.1f}" height="{BAR}" rx="3"/>'
        )
        parts.append(line(low, middle, high, middle, "quiet"))
        parts.append(text(max(length, high) + 8, middle + 4, f"{significant(point.y)} {chart.unit}", "quiet"))
    bottom = top + BAR_STEP * len(rows)
    parts.append(line(left, top, left, bottom, "grid"))
    return document(chart, parts, bottom + 22)


def document(chart: Chart, parts: Sequence[str], height: float) -> str:
    """The whole file."""
    rules = [f".{name}{{color:{light}}}" for name, (light, _) in {**COLOURS, **SURFACES, **INKS}.items()]
    dark = [f".{name}{{color:{shade}}}" for name, (_, shade) in {**COLOURS, **SURFACES, **INKS}.items()]
    size = f'width="{WIDTH}" height="{height:.0f}" viewBox="0 0 {WIDTH} {height:.0f}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label={quoteattr(chart.title)}',
            f'     font-family="{FONT}" font-size="13">',
            f"<title>{escape(chart.title)}</title>",
            f"<style>{''.join(rules)}@media (prefers-color-scheme: dark){{{''.join(dark)}}}</style>",
            '<rect class="surface" fill="currentColor" width="100%" height="100%" rx="8"/>',
            text(EDGE, 30, chart.title, "ink", size=17, bold=True),
            text(EDGE, 50, chart.remark, "quiet"),
            *parts,
            "</svg>\n",
        ]
    )


def text(x: float, y: float, what: str, ink: str, anchor: str = "start", size: int = 0, bold: bool = False) -> str:
    """Some words; `y` is their base line."""
    more = f' font-size="{size}"' if size else ""
    more += ' font-weight="600"' if bold else ""
    more += f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text class="{ink}" fill="currentColor" x="{x:.1f}" y="{y:.1f}"{more}>{escape(what)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, ink: str) -> str:
    """A thin line."""
    return f'<line class="{ink}" stroke="currentColor" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def scale(values: Sequence[float], first: float, last: float) -> Callable[[float], float]:
    """From values to pixels, logarithmically: the first value to the first of the pixels, the last to the last."""
    start = math.log10(values[0])
    extent = math.log10(values[-1]) - start or 1.0
    return lambda value: first + (last - first) * (math.log10(value) - start) / extent


def round_values(low: float, high: float) -> list[float]:
    """The values between two that an axis names: powers of ten, and twice and five times as much if those are few."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if math.log10(high / low) < 3 else (1,)
    values = [factor * 10.0**exponent for exponent in exponents for factor in factors]
    return [value for value in values if low <= value <= high]


def spread_out(places: Sequence[float], first: float, last: float) -> list[float]:
    """Moves labels that are too close to each other apart, in their order, and keeps them between two ends."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    moved = list(places)
    least = first
    for index in order:
        moved[index] = max(moved[index], least)
        least = moved[index] + LABEL_GAP
    most = last
    for index in reversed(order):
        moved[index] = min(moved[index], most)
        most = moved[index] - LABEL_GAP
    return moved


def number(value: float) -> str:
    """A round value as an axis names it."""
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def significant(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
