"""The page beside the figures: what is to be seen, which bars hold, how it was measured; every number from a CSV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench_bars import bars
from bench_common import BenchError
from bench_tables import Table, made_on, one, ratio, read_tables, value, where

from tasks.suite.atomic import write_atomic

PAGE = "README.md"


def write_page(folder: Path) -> Path:
    """Write the page of a folder of measurements.

    Raises:
        BenchError: nothing was measured there.
    """
    path = folder / PAGE
    write_atomic(path, page(read_tables(folder)).encode())
    return path


def page(tables: Mapping[str, Table]) -> str:
    """The page as markdown.

    Raises:
        BenchError: no tables.
    """
    if not tables:
        raise BenchError("no measurements to write about; run scripts/bench.py all")
    parts = [HEAD, *(f"- {sentence}" for sentence in quotes(tables)), "", _bars(tables)]
    parts += [section(tables) for section in (_operator, _training, _figure5, _streams)]
    return "\n".join(part for part in [*parts, _measured(tables)] if part is not None) + "\n"


HEAD = """# Efficiency, measured

Written by `scripts/bench.py figures` from the CSVs beside it. `make bench` measures everything anew (minutes on one
core; a part that is done is not done twice) and draws it. Read the ratios: they come from one run of one machine.
"""


def quotes(tables: Mapping[str, Table]) -> list[str]:
    """The numbers a reader would quote, one sentence each; the project's README has the same sentences."""
    found = []
    if "operator" in tables:
        rows = where(tables["operator"], batch=1, tokens=16384, direction="forward")
        ours, sdpa = one(rows, method="cpu"), one(rows, method="sdpa")
        if ours and sdpa:
            found.append(
                f"Prefix attention over 16,384 tokens takes {_figures(float(ours['ms']))} ms on one CPU thread, "
                f"{float(ours['times_copy']):.2f} times a copy of the values and "
                f"{_figures(float(ours['sdpa_over_it']))} times less than causal SDPA."
            )
    if "training" in tables:
        speed = value(tables["training"], "speed_up", model="aaren", size="length", tokens=16384)
        families = [float(r["speed_up"]) for r in where(tables["training"], model="aaren") if r["size"] != "length"]
        if speed and families:
            found.append(
                f"A training step is {min(families):.1f} to {max(families):.1f} times faster than the Transformer's at "
                f"the paper's sizes, and {_figures(speed)} times faster at 16,384 tokens."
            )
    if "figure5-1" in tables:
        rows = tables["figure5-1"]
        time = ratio(rows, "cumulative_s", "transformer", "aaren", tokens=100_000)
        bytes_, theirs = (value(rows, "state_bytes", model=m, tokens=100_000) for m in ("aaren", "transformer"))
        if time and bytes_ and theirs:
            found.append(
                f"A stream of 100,000 tokens costs {_figures(time)} times less time than with a key/value cache "
                f"allocated ahead, and its state is {bytes_:,.0f} bytes from the first token to the last "
                f"(the cache: {theirs / 1e6:,.0f} MB)."
            )
    return found


def _bars(tables: Mapping[str, Table]) -> str | None:
    lines = ["## Bars", "", "| bar | asked | measured | holds |", "|---|---|---|---|"]
    found = bars(tables)
    for bar in found:
        asked, measured = f"{bar.sense} {_figures(bar.limit)}", _figures(bar.measured)
        lines.append(f"| {bar.what} | {asked} | {measured} | {'yes' if bar.holds else '**no**'} |")
    lines += ["", f"{sum(bar.holds for bar in found)} of {len(found)} hold in this run.", ""]
    return "\n".join(lines) if found else None


def _operator(tables: Mapping[str, Table]) -> str | None:
    if "operator" not in tables:
        return None
    rows = where(tables["operator"], batch=1)
    longest = max((int(row["tokens"]) for row in rows), default=0)
    ours = where(rows, method="cpu", direction="forward", tokens=longest)
    text = ["## The operator", "", "![operator](operator.png)", ""]
    if ours:
        rivals = [r for r in where(rows, direction="forward", tokens=longest) if r["method"] not in ("copy", "cpu")]
        others = [r for r in rivals if not r["method"].startswith("cpu,")]
        text.append(
            f"Ours follows the line of a copy, {float(ours[0]['times_copy']):.2f} times it at {longest:,} tokens; "
            "causal SDPA and the masked softmax bend upwards with the square of N."
        )
        if others:
            best = min(others, key=lambda row: float(row["ms"]))
            times = float(best["ms"]) / float(ours[0]["ms"])
            text.append(f"The next best form at that length is `{best['method']}`, {_figures(times)} times slower.")
    text += _few_rows(tables)
    kept = [row for row in where(rows, direction="forward+backward", tokens=1024) if row["saved_over_values"]]
    if kept:
        listed = sorted(
            (float(row["saved_over_values"]), row["method"]) for row in kept if "threads" not in row["method"]
        )
        text.append(
            "Kept for the backward at 1,024 tokens, in times the bytes of the values: "
            + ", ".join(f"`{name}` {_figures(times)}" for times, name in listed if name != "copy")
            + ". For the Hillis-Steele scan it grows with log N, for the masked softmax with N."
        )
    text += [
        "",
        "torch's `associative_scan` runs in its `generic` mode; its other mode, `pointwise`, is for GPUs. Forms that "
        "end early are left out where a call would take seconds or all memory.",
        "",
    ]
    return "\n".join(text)


def _few_rows(tables: Mapping[str, Table]) -> list[str]:
    """What a second thread brings to one long row, beside what it brings to two that need nothing of each other."""
    rows = where(tables.get("operator-threads", []), direction="forward", threads=2)
    copied = one(rows, method="copy", batch=1, heads=1, tokens=65536)
    whole, halves = (one(rows, method="cpu", batch=1, heads=h, tokens=n) for h, n in ((1, 65536), (2, 32768)))
    if not (copied and whole and halves):
        return []
    times, most, copies = (float(row["speed_up_over_1_thread"]) for row in (whole, halves, copied))
    return [
        f"One row of 65,536 tokens: two threads are {times:.2f} times as fast as one. Two rows of half the tokens, "
        f"which need nothing of each other: {most:.2f} times; a copy of the values: {copies:.2f} times. One core "
        "already works at nearly the speed of a copy, so that a second brings what the memory still has to give."
    ]


def _training(tables: Mapping[str, Table]) -> str | None:
    if "training" not in tables:
        return None
    text = ["## A training step", "", "![training](training.png)", ""]
    ups = [(int(r["tokens"]), float(r["speed_up"])) for r in where(tables["training"], model="aaren", size="length")]
    if ups:
        listed = ", ".join(f"{up:.2g} at {tokens:,}" for tokens, up in ups)
        text.append(
            f"Forward and backward of the whole stack, the Transformer's time over Aaren's, by tokens: {listed}. Where "
            "the sequence is short the two do nearly the same matrix products, and the advantage is the folded query."
        )
    return "\n".join([*text, ""])


def _figure5(tables: Mapping[str, Table]) -> str | None:
    if not {"figure5-1", "figure5-128", "figure5-whole"} <= tables.keys():
        return None
    text = ["## Figure 5 anew: a stream", "", "![figure 5](figure5.png)", ""]
    for name, streams in (("figure5-128", "128 streams"), ("figure5-1", "One stream")):
        rows = tables[name]
        last = rows[-1]["tokens"]
        over = [
            (m, ratio(rows, "cumulative_s", m, "aaren", tokens=last))
            for m in ("transformer", "naive cache", "gru", "lstm")
        ]
        listed = ", ".join(f"{model} {_figures(times)}" for model, times in over if times)
        text.append(f"{streams}, {int(last):,} tokens, cumulative time over Aaren's: {listed}.")
    whole, sampled = tables["figure5-whole"][-1], tables["figure5-1"]
    ours, theirs = (value(sampled, "cumulative_s", model=m, tokens=whole["tokens"]) for m in ("aaren", "transformer"))
    if ours and theirs:
        text.append(
            f"Aaren's single stream run whole took {_figures(float(whole['cumulative_s']))} s for "
            f"{int(whole['tokens']):,} tokens; from samples it is {_figures(ours)} s. The others are sampled at the "
            "marked fillings and integrated (column `how`): the Transformer's whole run would take "
            f"{_figures(theirs / 60)} minutes."
        )
    text.append("`naive cache`: keys and values joined anew with every token, as a plain implementation does.")
    return "\n".join([*text, ""])


def _streams(tables: Mapping[str, Table]) -> str | None:
    if "streams" not in tables:
        return None
    text = ["## Many streams at once", "", "![streams](streams.png)", ""]
    rows = where(tables["streams"], what="aaren")
    listed = ", ".join(f"{float(r['tokens_a_second']):,.0f} with {int(r['streams']):,}" for r in rows)
    text.append(f"Tokens a second of Aaren on one thread: {listed}. Each stream keeps")
    text.append(f"{float(rows[0]['bytes_a_stream']):,.0f} bytes, however long it runs.")
    return "\n".join([*text, ""])


def _measured(tables: Mapping[str, Table]) -> str:
    lines = ["## How it was measured", "", "| CSV | settings | machine, versions, commit |", "|---|---|---|"]
    lines += [f"| `{name}.csv` | {rows[0]['settings']} | {made_on(rows)} |" for name, rows in tables.items()]
    lines += ["", "Command: `make bench`, that is `python scripts/bench.py all`. Times of one thread are CPU times."]
    return "\n".join(lines)


def _figures(number: float) -> str:
    """Three figures, thousands with commas, small numbers with an exponent."""
    if number and abs(number) < 1e-3:
        return f"{number:.2g}"
    return f"{float(f'{number:.3g}'):,.6g}"
