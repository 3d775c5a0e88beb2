"""Small charts as inline SVG and CSS: no script, no font, told apart in black and white by marker and dash."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

WIDTH, HEIGHT = 320, 200
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 8, 34
MOST_POINTS = 60  # of one line; more cannot be told apart at this width
MARKED = 12  # a line with no more points than this shows each of them
STYLES = {"aaren": 0, "transformer": 1, "mean": 2, "none": 3}  # colour, dash and marker of each model, see report.css
OTHERS = 4


class Line(NamedTuple):
    """One line of a chart: who it belongs to, and its points; a None in `y` (a NaN of the training) breaks nothing."""

    model: str
    x: Sequence[float]
    y: Sequence[float | None]


class Chart(NamedTuple):
    """A line chart: its words, its lines, and whether x is drawn by powers of two; `diagonal`: y = x is the ideal."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    log_x: bool = False
    diagonal: bool = False


class Mark(NamedTuple):
    """One lane of the forest plot, in units of the margin, positive where Aaren is better.

    `low` and `high` are None where one seed has no interval.
    """

    label: str
    gain: float
    low: float | None
    high: float | None
    text: str
    verdict: str


def style_of(model: str) -> int:
    """The number of a model's style; models that are not ours to name share the last one."""
    return STYLES.get(model, OTHERS)


def draw(chart: Chart) -> Markup:
    """The chart as one `<svg>` with its legend left to the page; "" if no line has two numbers to draw."""
    lines = [line for line in (_thin(line) for line in chart.lines) if len(line.x) > 0]
    if sum(len(line.x) for line in lines) < 2:
        return Markup("")
    xs = [_x(value, chart) for line in lines for value in line.x]
    ys = [float(value) for line in lines for value in line.y if value is not None]
    x_low, x_high = _widen(min(xs), max(xs))
    low, high = _widen(min(ys), max(ys))
    y_ticks = ticks(low, high)
    low, high = min(low, y_ticks[0]), max(high, y_ticks[-1])

    def at(x: float, y: float) -> tuple[str, str]:
        across = LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        down = TOP + (high - y) / (high - low) * (HEIGHT - TOP - BOTTOM)
        return f"{across:.1f}", f"{down:.1f}"

    parts = [
        Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title>').format(
            WIDTH, HEIGHT, chart.title, chart.title
        )
    ]
    for tick in y_ticks:
        _, y = at(x_low, tick)
        parts.append(Markup('<path class="grid" d="M{} {}H{}"/>').format(LEFT, y, WIDTH - RIGHT))
        parts.append(Markup('<text class="y" x="{}" y="{}">{}</text>').format(LEFT - 4, y, number(tick)))
    for tick in _x_ticks(chart, lines, x_low, x_high):
        x, _ = at(_x(tick, chart), low)
        parts.append(Markup('<text class="x" x="{}" y="{}">{}</text>').format(x, HEIGHT - BOTTOM + 13, number(tick)))
    if chart.diagonal:
        (x1, y1), (x2, y2) = at(0.0, 0.0), at(1.0, 1.0)
        parts.append(Markup('<path class="ideal" d="M{} {}L{} {}"/>').format(x1, y1, x2, y2))
    for line in lines:
        parts += _line(line, [at(_x(x, chart), y) for x, y in zip(line.x, line.y, strict=True) if y is not None])
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(Markup('<text class="x" x="{}" y="{}">{}</text>').format(middle, HEIGHT - 6, chart.x_label))
    parts.append(Markup('<text class="unit" x="{}" y="{}">{}</text></svg>').format(LEFT + 4, TOP + 9, chart.y_label))
    return Markup("").join(parts)


def lane(mark: Mark, span: float) -> dict[str, object]:
    """Where a forest plot's interval and dot lie, in per cent of a lane from -span to +span margins."""

    def place(value: float) -> float:
        return round(50 + 50 * min(1.0, max(-1.0, value / span)), 2)

    found: dict[str, object] = {"dot": place(mark.gain), "beyond": abs(mark.gain) > span, "interval": None}
    if mark.low is not None and mark.high is not None:
        left = place(min(mark.low, mark.high))
        found["interval"] = (left, round(place(max(mark.low, mark.high)) - left, 2))
    return found


def ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Round numbers that cover `low` to `high`, at most `most` + 1 of them where that is possible."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(factor for factor in (1, 2, 2.5, 5, 10, 20) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def number(value: float) -> str:
    """A tick as a reader writes it: 800, 0.25, 12k."""
    if abs(value) >= 10_000 and value % 100 == 0:
        return f"{value / 1000:g}k"
    return f"{value:.4g}"


def _thin(line: Line) -> Line:
    """The finite points, no more than MOST_POINTS of them, the last one among them."""
    points = [
        (float(x), float(y))
        for x, y in zip(line.x, line.y, strict=False)
        if isinstance(x, int | float) and isinstance(y, int | float) and math.isfinite(x) and math.isfinite(y)
    ]
    if len(points) > MOST_POINTS:
        step = (len(points) - 1) / (MOST_POINTS - 1)
        points = [points[round(index * step)] for index in range(MOST_POINTS)]
    return Line(line.model, [x for x, _ in points], [y for _, y in points])


def _line(line: Line, points: Sequence[tuple[str, str]]) -> list[Markup]:
    style = style_of(line.model)
    path = "M" + "L".join(f"{x} {y}" for x, y in points)
    drawn = [Markup('<path class="line m{}" d="{}"/>').format(style, path)] if len(points) > 1 else []
    for x, y in points if len(points) <= MARKED else points[-1:]:
        drawn.append(Markup('<use href="#k{}" class="m{}" x="{}" y="{}"/>').format(style, style, x, y))
    return drawn


def _x(value: float, chart: Chart) -> float:
    return math.log2(max(value, 1e-9)) if chart.log_x else float(value)


def _x_ticks(chart: Chart, lines: Sequence[Line], low: float, high: float) -> list[float]:
    if chart.log_x:
        found = sorted({x for line in lines for x in line.x})
        return found[:: max(1, math.ceil(len(found) / 5))]
    return [tick for tick in ticks(low, high) if low - 1e-9 <= tick <= high + 1e-9]


def _widen(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - (abs(low) or 1) / 10, high + (abs(high) or 1) / 10)


def legend(models: Sequence[str]) -> Markup:
    """Marker, dash and name of every model that some chart shows."""
    ordered = sorted({model for model in models if model in STYLES}, key=style_of)
    ordered += ["rules without training, and other models"] if set(models) - set(ordered) else []
    keys = (
        Markup(
            '<span class="sample"><svg viewBox="0 0 34 12" aria-hidden="true"><path class="line m{0}" d="M1 6H33"/>'
            '<use href="#k{0}" class="m{0}" x="17" y="6"/></svg>{1}</span>'
        ).format(style_of(model), escape(model))
        for model in ordered
    )
    return Markup(" ").join(keys)
