"""How the efficiency figures look: methods told apart in black and white by marker and line; no more ink than data."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from tasks.suite.atomic import write_atomic

matplotlib.use("agg")

DRAWING: Any = {
    "font.family": "DejaVu Sans",  # ships with matplotlib, so that a figure is the same everywhere
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "svg.hashsalt": "aaren",  # the same drawing gives the same file
    "svg.fonttype": "none",  # text stays text: small files, and it can be searched
}


class Style(NamedTuple):
    """Label, colour (from light to dark alike in grey), marker and line of one method in every figure."""

    label: str
    color: str
    marker: str
    line: Any = "-"


STYLES = {
    "aaren": Style("Aaren", "#000000", "o"),
    "cpu": Style("ours, 1 thread", "#000000", "o"),
    "cpu, 2 threads": Style("ours, 2 threads", "#000000", "o", (0, (2, 1.5))),
    "transformer": Style("Transformer, cache allocated ahead", "#b2182b", "s"),
    "sdpa": Style("causal SDPA", "#b2182b", "s"),
    "naive cache": Style("Transformer, cache joined anew each token", "#ef8a62", "D", "--"),
    "gru": Style("GRU", "#2166ac", "^", "-."),
    "lstm": Style("LSTM", "#67a9cf", "v", ":"),
    "copy": Style("copy of the values", "#888888", "", "--"),
    "chunked": Style("chunked (plain torch)", "#2166ac", "^"),
    "hillis_steele": Style("Hillis-Steele", "#67a9cf", "v", "-."),
    "associative_scan": Style("torch associative_scan", "#1b7837", "P", "-."),
    "recurrence": Style("recurrence", "#998ec3", "x", ":"),
    "block_recurrence": Style("block recurrence", "#5e3c99", "d", (0, (6, 1.5))),
    "masked_softmax": Style("masked softmax", "#ef8a62", "D", "--"),
    "products": Style("its matrix products alone", "#888888", "", "--"),
}


def style_of(name: str) -> Style:
    """The style of a method; one that is not known, such as a user's own, gets its name and a plain line."""
    return STYLES.get(name, Style(name, "#5e3c99", "*"))


def draw_line(axis: Axes, name: str, x: Sequence[float], rows: Sequence[Any], column: str, scale: float = 1.0) -> None:
    """One method's medians, with quartiles as bars where the rows have them."""
    look = style_of(name)
    y = [float(row[column]) * scale for row in rows]
    low, high = ([float(row.get(f"{column}_{q}") or row[column]) * scale for row in rows] for q in ("q1", "q3"))
    error = [
        [max(0.0, m - a) for m, a in zip(y, low, strict=True)],
        [max(0.0, b - m) for m, b in zip(y, high, strict=True)],
    ]
    axis.errorbar(
        x, y, yerr=error, label=look.label, color=look.color, marker=look.marker, linestyle=look.line,
        markerfacecolor="white" if look.marker in "svD^d" else look.color, elinewidth=0.8, capsize=1.5,
    )  # fmt: skip


def log_axes(axis: Axes, x: str, y: str, *, x_log: bool = True, y_log: bool = True) -> None:
    """Labels, and on logarithmic axes whole powers of ten written as a reader says them."""
    axis.set(xlabel=x, ylabel=y)
    for is_log, which, one in ((x_log, axis.set_xscale, axis.xaxis), (y_log, axis.set_yscale, axis.yaxis)):
        if is_log:
            which("log")
            one.set_major_locator(LogLocator(10, numticks=12))
            one.set_minor_formatter(NullFormatter())
            one.set_major_formatter(FuncFormatter(lambda value, _: number(value)))


def number(value: float) -> str:
    """1e-05 as 0.00001, 10000.0 as 10,000, 1e+06 as 10⁶."""
    if value >= 1e6:
        exponent = len(f"{value:.0f}") - 1
        return f"$10^{{{exponent}}}$"
    return f"{value:,.0f}" if value >= 1 else f"{value:.10f}".rstrip("0").rstrip(".")


def finish(figure: Figure, folder: Path, name: str, caption: str, width: int) -> list[Path]:
    """Caption below the panels; PNG and SVG, each whole or not at all."""
    figure.supxlabel("\n".join(textwrap.wrap(caption, width)), fontsize=7, color="0.25", x=0.01, ha="left")
    written = []
    for kind in ("png", "svg"):
        buffer = io.BytesIO()
        with_time = {"Software": None} if kind == "png" else {"Date": None}  # left out: they tell runs apart
        figure.savefig(buffer, format=kind, dpi=150, metadata=with_time)
        path = folder / f"{name}.{kind}"
        write_atomic(path, buffer.getvalue())
        written.append(path)
    return written


def shared_legend(figure: Figure, axes: Iterable[Axes], columns: int) -> None:
    """One legend above all panels, every method once."""
    handles: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=columns, fontsize=8, handlelength=3)
