"""The bars that the measurements are held against: each with what was measured, and whether it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from bench_tables import Table, one, ratio, where

AT_MOST, AT_LEAST = "at most", "at least"
COPY = "times a copy of the values, forward, 1 x 16,384, {} thread{} for both"


class Bar(NamedTuple):
    """One bar: what is asked for, the limit, and how it is read off the tables."""

    what: str
    sense: str
    limit: float
    measured: float

    @property
    def holds(self) -> bool:
        """Whether the measured value is on the right side of the limit."""
        return self.measured <= self.limit if self.sense == AT_MOST else self.measured >= self.limit


def bars(tables: Mapping[str, Table]) -> list[Bar]:
    """Every bar whose measurements are there, in the order of the page."""
    readers: dict[str, Callable[[Mapping[str, Table]], Iterator[Bar]]] = {
        "operator": _operator,
        "operator-threads": _threads,
        "operator-error": _error,
        "training": _training,
        "streams-one": _one_token,
        "streams": _streams,
        "figure5-1": _one_stream,
        "figure5-128": _many_streams,
    }
    return [bar for name, read in readers.items() if name in tables for bar in read(tables)]


def _operator(tables: Mapping[str, Table]) -> Iterator[Bar]:
    asked = {(64, 60): 10, (16, 96): 10, (2, 2048): 100, (1, 16384): 500}
    for (batch, tokens), limit in asked.items():
        for direction in ("forward", "forward+backward"):
            row = one(tables["operator"], method="cpu", batch=batch, tokens=tokens, direction=direction)
            if row and row["sdpa_over_it"]:
                what = f"times faster than causal SDPA, {direction}, {batch} x {tokens:,}"
                yield Bar(what, AT_LEAST, limit, float(row["sdpa_over_it"]))
    row = one(tables["operator"], method="cpu", batch=1, tokens=16384, direction="forward")
    if row:
        yield Bar(COPY.format(1, ""), AT_MOST, 1.5, float(row["times_copy"]))
    kept = [float(r["saved_over_values"]) for r in where(tables["operator"], method="cpu") if r["saved_over_values"]]
    if kept:
        yield Bar("bytes kept for the backward, over those of the values", AT_MOST, 2.2, max(kept))


def _threads(tables: Mapping[str, Table]) -> Iterator[Bar]:
    rows = where(tables["operator-threads"], direction="forward", method="cpu")
    for row in where(rows, batch=1, heads=8, tokens=16384, threads=2):
        yield Bar(COPY.format(2, "s"), AT_MOST, 1.5, float(row["times_copy"]))
    for row in where(rows, batch=1, heads=1, tokens=65536, threads=2):
        what = "times faster with two threads than with one, forward, 1 x 1 x 65,536 x 64"
        yield Bar(what, AT_LEAST, 1.3, float(row["speed_up_over_1_thread"]))


def _error(tables: Mapping[str, Table]) -> Iterator[Bar]:
    errors = [float(row["max_abs_error"]) for row in where(tables["operator-error"], method="cpu")]
    if errors:
        yield Bar("largest error at any spread of the scores, float32 inputs", AT_MOST, 1.5e-7, max(errors))


def _training(tables: Mapping[str, Table]) -> Iterator[Bar]:
    for row in where(tables["training"], model="aaren"):
        if row["size"] != "length":
            limit = 3.0 if row["size"] == "SelfRegulationSCP1" else 1.25
            yield Bar(
                f"times faster than the Transformer, training step, {row['size']}",
                AT_LEAST,
                limit,
                float(row["speed_up"]),
            )


def _one_token(tables: Mapping[str, Table]) -> Iterator[Bar]:
    rows = tables["streams-one"]
    early, late = (one(rows, what=f"step at token {tokens}") for tokens in (100, 100_000))
    if early and late:
        yield Bar("times the bare products, one stream's token", AT_MOST, 1.3, float(early["times_bare"]))
        later = float(late["ms"]) / float(early["ms"])
        yield Bar("a token's time at 100,000 over that at 100", AT_MOST, 1.1, later)


def _streams(tables: Mapping[str, Table]) -> Iterator[Bar]:
    row = one(tables["streams"], what="aaren", streams=4096)
    if row:
        rate = float(row["times_one_stream"])
        yield Bar("times the tokens a second of one stream, 4,096 streams", AT_LEAST, 2.5, rate)
        yield Bar("times the bare products, 4,096 streams", AT_MOST, 1.5, float(row["times_bare"]))


def _one_stream(tables: Mapping[str, Table]) -> Iterator[Bar]:
    rows = tables["figure5-1"]
    for tokens, limit in ((5000, 1.5), (100_000, 20)):
        found = ratio(rows, "cumulative_s", "transformer", "aaren", tokens=tokens)
        if found is not None:
            yield Bar(
                f"times less cumulative time than the Transformer, one stream, {tokens:,} tokens",
                AT_LEAST,
                limit,
                found,
            )
    sizes = {row["state_bytes"] for row in where(rows, model="aaren")}
    yield Bar("sizes of Aaren's state over the stream (1: it never grows)", AT_MOST, 1, len(sizes))


def _many_streams(tables: Mapping[str, Table]) -> Iterator[Bar]:
    found = ratio(tables["figure5-128"], "cumulative_s", "transformer", "aaren", tokens=5000)
    if found is not None:
        yield Bar("times less cumulative time than the Transformer, 128 streams, 5,000 tokens", AT_LEAST, 10, found)
