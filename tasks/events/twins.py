"""Synthetic twins of two marked sets that cannot be shipped: same sizes, same kind of clock, invented events.

A twin lets a config and the code behind it run anywhere; its numbers say nothing about the real set.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tasks.events.sequences import EventSequences

WEEK = 1 / 52
MIMIC_SIZES = {"sequences": 650, "events": 2419, "marks": 75, "val": 58, "test": 65, "folds": 5}
REDDIT_SIZES = {"sequences": 10000, "events": 672447, "marks": 984, "window": 2678400.0}


def mimic_twin(seed: int) -> tuple[EventSequences, np.ndarray]:
    """650 patients, 2,419 admissions on a clock of whole weeks (years), 75 sticky marks; five folds of 527/58/65.

    Gaps are log-normal with the median (0.25 years) and spread (1.35) measured on the real set, at least one week.
    """
    rng = np.random.default_rng([1, seed])
    n, marks = MIMIC_SIZES["sequences"], MIMIC_SIZES["marks"]
    lengths = _lengths(rng, n, MIMIC_SIZES["events"], shortest=2, spread=0.6)
    gaps = np.maximum(1, np.round(np.exp(rng.normal(np.log(0.25), 1.35, MIMIC_SIZES["events"])).clip(max=6) / WEEK))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    gaps[offsets[:-1]] = 0
    weeks = np.cumsum(gaps)
    times = (weeks - np.repeat(weeks[offsets[:-1]], lengths)) * WEEK
    sequences = _assemble(rng, times, lengths, marks, stay=0.82, unit="years", grid=WEEK, window=(np.nan, np.nan))
    order = rng.permutation(n)
    folds = np.zeros((MIMIC_SIZES["folds"], n), np.int8)
    held_out = MIMIC_SIZES["val"] + MIMIC_SIZES["test"]
    for fold in range(MIMIC_SIZES["folds"]):
        rows = order[fold * held_out : (fold + 1) * held_out]
        folds[fold, rows[: MIMIC_SIZES["val"]]], folds[fold, rows[MIMIC_SIZES["val"] :]] = 1, 2
    return sequences, folds


def reddit_twin(seed: int) -> tuple[EventSequences, None]:
    """10,000 users, 672,447 posts in 984 communities within 31 days, in bursts and sticky."""
    rng = np.random.default_rng([2, seed])
    n, events, window = REDDIT_SIZES["sequences"], REDDIT_SIZES["events"], REDDIT_SIZES["window"]
    lengths = _lengths(rng, n, events, shortest=5, spread=1.0)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    raw = np.exp(rng.normal(0, 2.2, events))
    ends = np.cumsum(raw)
    starts = ends[offsets[:-1]] - raw[offsets[:-1]]
    share = (ends - np.repeat(starts, lengths)) / np.repeat(ends[offsets[1:] - 1] - starts, lengths)
    span = rng.uniform(0.7, 0.999, n) * window
    times = share * np.repeat(span, lengths)
    marks = int(REDDIT_SIZES["marks"])
    return _assemble(rng, times, lengths, marks, stay=0.6, unit="seconds", grid=0.0, window=(0.0, window)), None


def _lengths(rng: np.random.Generator, n: int, total: int, shortest: int, spread: float) -> np.ndarray:
    """n log-normally spread lengths that add up to `total`, none below `shortest`."""
    share = np.exp(rng.normal(0, spread, n))
    lengths = shortest + np.floor(share / share.sum() * (total - shortest * n)).astype(np.int64)
    lengths[: total - lengths.sum()] += 1
    return lengths


def _assemble(
    rng: np.random.Generator,
    times: np.ndarray,
    lengths: np.ndarray,
    n_marks: int,
    stay: float,
    unit: str,
    grid: float,
    window: tuple[float, float],
) -> EventSequences:
    """Give every event a mark: the one before it with probability `stay`, else a draw by a power law."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    popularity = 1 / np.arange(1, n_marks + 1) ** 1.2
    drawn = rng.choice(n_marks, len(times), p=popularity / popularity.sum())
    fresh = rng.random(len(times)) >= stay
    fresh[offsets[:-1]] = True
    marks = drawn[np.maximum.accumulate(np.where(fresh, np.arange(len(times)), 0))]
    return EventSequences(
        times=times,
        marks=marks.astype(np.int64),
        offsets=offsets,
        window_start=np.full(len(lengths), window[0]),
        window_end=np.full(len(lengths), window[1]),
        split=np.full(len(lengths), -1, np.int8),
        n_marks=n_marks,
        unit=unit,
        grid=grid,
    )


TWINS: dict[str, Callable[[int], tuple[EventSequences, np.ndarray | None]]] = {
    "mimic-twin": mimic_twin,
    "reddit-twin": reddit_twin,
}
