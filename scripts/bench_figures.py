"""The efficiency figures, drawn from the CSVs alone, so that they can be redrawn without measuring."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
from bench_style import DRAWING, draw_line, finish, log_axes, shared_legend, style_of
from bench_tables import Table, made_on, names, numbers, read_tables, where
from matplotlib.figure import Figure


def draw_all(folder: Path) -> list[Path]:
    """Every figure whose CSVs are there, as PNG and SVG.

    Raises:
        BenchError: a CSV that cannot be read.
    """
    written: list[Path] = []
    tables = read_tables(folder)
    for name, (needs, draw) in FIGURES.items():
        if all(need in tables for need in needs):
            with plt.rc_context(DRAWING):
                figure, caption, width = draw(*(tables[need] for need in needs))
                written += finish(figure, folder, name, f"{caption} {made_on(tables[needs[0]])}", width)
                plt.close(figure)
    return written


def operator(rows: Table) -> tuple[Figure, str, int]:
    """Time against N forward, forward and backward; memory kept for the backward."""
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 4.4), layout="constrained")
    rows = where(rows, batch=1)
    for axis, direction in zip(axes, ("forward", "forward+backward"), strict=False):
        for name in names(rows, "method"):
            chosen = where(rows, method=name, direction=direction)
            draw_line(axis, name, numbers(chosen, "tokens"), chosen, "ms")
        log_axes(axis, "tokens N", "milliseconds")
        axis.set_title(direction.replace("+", " and "), fontsize=9, loc="left")
    for name in names(rows, "method"):
        chosen = [row for row in where(rows, method=name, direction="forward+backward") if row["saved_over_values"]]
        if name != "copy" and "threads" not in name:
            draw_line(axes[2], name, numbers(chosen, "tokens"), chosen, "saved_over_values")
    log_axes(axes[2], "tokens N", "bytes / bytes of the values")
    axes[2].set_yticks([2, 3, 4, 6, 10, 20, 30, 60], minor=False)
    axes[2].set_title("kept for the backward", fontsize=9, loc="left")
    shared_legend(figure, axes, 5)
    heads, dim, runs = rows[0]["heads"], rows[0]["dim"], max(numbers(rows, "runs"))
    caption = (
        f"Prefix attention, batch 1, {heads} heads of {dim} values, float32. Median of {runs:.0f} calls (3 where one "
        "takes over a second), bars: quartiles; rivals in turn. CPU time of one thread; wall time for ours with 2."
    )
    return figure, caption, 190


def training(rows: Table) -> tuple[Figure, str, int]:
    """Milliseconds of a step at the families' sizes, and against N."""
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 4.0), layout="constrained", width_ratios=[1.15, 1])
    families, lengths = [row for row in rows if row["size"] != "length"], where(rows, size="length")
    sizes = names(families, "size")
    for name in names(families, "model"):
        look, chosen = style_of(name), where(families, model=name)
        places = [sizes.index(row["size"]) for row in chosen]
        axes[0].plot(
            numbers(chosen, "ms"), places, color=look.color, marker=look.marker, linestyle="", label=_short(name),
            markerfacecolor="white" if look.marker in "svD^" else look.color, markersize=6,
        )  # fmt: skip
    for row in where(families, model=names(families, "model")[0]):
        other = max(numbers(where(families, size=row["size"]), "ms"))
        axes[0].annotate(f"{float(row['speed_up']):.1f} x", (other, sizes.index(row["size"])), (8, -3),
                         textcoords="offset points", fontsize=8)  # fmt: skip
    labels = [(where(families, size=size)[0], size) for size in sizes]
    axes[0].set_yticks(
        range(len(sizes)), [f"{size}\n{r['batch']} x {r['tokens']}, d {r['d_model']}" for r, size in labels]
    )
    log_axes(axes[0], "milliseconds a step", "", y_log=False)
    axes[0].set(ylim=(len(sizes) - 0.5, -0.5))
    axes[0].margins(x=0.15)
    axes[0].legend(fontsize=8, loc="upper right")
    axes[0].set_title("paper sizes of the families (batch x tokens)", fontsize=9, loc="left")
    for name in names(lengths, "model"):
        chosen = where(lengths, model=name)
        draw_line(axes[1], name, numbers(chosen, "tokens"), chosen, "ms")
    log_axes(axes[1], "tokens N", "milliseconds a step")
    axes[1].set_title("one layer, d 128, 8 heads, batch 1", fontsize=9, loc="left")
    caption = (
        "Forward and backward of the whole stack, float32; the Transformer's attention is torch's fused causal SDPA. "
        f"Median of {max(numbers(rows, 'runs')):.0f} steps (3 where one takes over a second), bars: quartiles; models "
        f"taken in turn. CPU time, {rows[0]['threads']} thread."
    )
    return figure, caption, 170


def _short(name: str) -> str:
    return style_of(name).label.partition(",")[0]


def figure5(one: Table, several: Table, whole: Table) -> tuple[Figure, str, int]:
    """Memory and cumulative time against tokens: 128 streams as in the paper, one stream to 100,000."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 7), layout="constrained")
    for row, (rows, log) in enumerate(((several, False), (one, True))):
        for name in names(rows, "model"):
            chosen = [r for r in where(rows, model=name) if not log or float(r["tokens"]) > 0]
            tokens = numbers(chosen, "tokens")
            if log:
                draw_line(axes[row, 0], name, tokens, chosen, "state_bytes", 1e-3)
                timed = whole if name == "aaren" else chosen
                draw_line(axes[row, 1], name, numbers(timed, "tokens"), timed, "cumulative_s")
            else:
                draw_line(axes[row, 0], name, tokens, chosen, "state_bytes", 1e-9)
                timed = [r for r in chosen if float(r["tokens"]) > 0]
                draw_line(axes[row, 1], name, numbers(timed, "tokens"), timed, "cumulative_s", 1 / 60)
    log_axes(axes[0, 0], "tokens seen by each stream", "state, GB", x_log=False, y_log=False)
    log_axes(axes[0, 1], "tokens seen by each stream", "cumulative minutes", x_log=False)
    axes[0, 1].set_xlim(left=0)
    log_axes(axes[1, 0], "tokens seen", "state, kB")
    log_axes(axes[1, 1], "tokens seen", "cumulative seconds")
    for axis, title in zip(
        axes.flat, ("128 streams: memory", "128 streams: time", "1 stream: memory", "1 stream: time"), strict=True
    ):
        axis.set_title(title, fontsize=9, loc="left")
    shared_legend(figure, axes.flat, 3)
    caption = (
        "The paper's Figure 5 anew, on a CPU: one layer of its block (d 512, d_ff 2048, 8 heads), float32, one thread, "
        "CPU time. GRU and LSTM stand in the attention's place in the same block. Memory: what the tokens so far left "
        "behind, weights not counted. Time: a token's time sampled at the marked fillings of the state, all models in "
        "turn, and integrated between them; Aaren's single stream was run whole, token after token. Median and "
        f"quartiles of {max(numbers(one, 'runs')):.0f} ({max(numbers(several, 'runs')):.0f} with 128 streams) samples."
    )
    return figure, caption, 165


def streams(rows: Table) -> tuple[Figure, str, int]:
    """Tokens a second, and the bytes each stream keeps, against the number of streams."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.9), layout="constrained")
    rows = [row | _rates(row) for row in rows]
    bare = [min(found, key=lambda row: float(row["ms"])) for found in _bare(rows)]
    draw_line(axes[0], "products", numbers(bare, "streams"), bare, "tokens_a_second")
    for name in names(rows, "what"):
        chosen = where(rows, what=name)
        if not name.startswith("bare"):
            draw_line(axes[0], name, numbers(chosen, "streams"), chosen, "tokens_a_second")
            draw_line(axes[1], name, numbers(chosen, "streams"), chosen, "bytes_a_stream")
    seen = rows[0]["tokens_seen"]
    log_axes(axes[0], "streams at once", "tokens a second, all streams", y_log=False)
    axes[0].set_ylim(bottom=0)
    log_axes(axes[1], "streams at once", "bytes a stream")
    for axis, title in zip(axes, ("speed", f"memory, {seen} tokens seen"), strict=True):
        axis.set_title(title, fontsize=9, loc="left")
    shared_legend(figure, axes, 4)
    caption = (
        "A step of many independent streams, one layer of the paper's block (d 512, d_ff 2048, 8 heads), float32, one "
        f"thread, CPU time; every stream has seen {seen} tokens, after which the Transformer's cache goes on growing. "
        "Dashed: Aaren's four matrix products alone, by the quicker of two ways. "
        f"Median of {max(numbers(rows, 'runs')):.0f} calls, bars: quartiles of the times; all in turn."
    )
    return figure, caption, 165


def _rates(row: dict[str, str]) -> dict[str, str]:
    quartiles = {"q1": row["ms_q3"], "q3": row["ms_q1"]}  # the slow quarter of the times is that of the low rates
    return {f"tokens_a_second_{q}": str(float(row["streams"]) * 1e3 / float(ms)) for q, ms in quartiles.items()}


def _bare(rows: Table) -> list[Table]:
    kept = [row for row in rows if row["what"].startswith("bare")]
    return [where(kept, streams=count) for count in names(kept, "streams")]


FIGURES: dict[str, tuple[tuple[str, ...], Callable[..., tuple[Figure, str, int]]]] = {
    "operator": (("operator",), operator),
    "training": (("training",), training),
    "streams": (("streams",), streams),
    "figure5": (("figure5-1", "figure5-128", "figure5-whole"), figure5),
}
