"""The paper's own result tables, read off its arXiv HTML into the form of `results/reference`.

A number is placed by the words above and to the left of it, not by where it stands. What the words leave open, or what
contradicts what is known of the paper, is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from tasks.suite.latexml import Grid, PageError, read_grids
from tasks.suite.layout import DATASETS, FAMILY_OF, HORIZONS, MAIN_HORIZON, metrics_of
from tasks.suite.paper_labels import Number, is_average, labels, number
from tasks.suite.references import COLUMNS, PAPER_MODELS, PAPER_PROTOCOL, PAPER_SOURCE

VERSION = "2405.13956v2"
# The only numbers of the paper known before it was read: a page that says otherwise is refused.
ANCHORS = {("ETTh1", "336", "mse"): 0.65, ("ETTh1", "336", "mae"): 0.55}
_ANCHOR_MODEL = PAPER_MODELS[0]
Key = tuple[str, str, str, str]  # dataset, horizon, metric, model


class Imported(NamedTuple):
    """The numbers as reference lines, and what the page was expected to have but lacks."""

    lines: pd.DataFrame
    missing: list[str]


def read_paper(html: str) -> Imported:
    """Every result of the paper on the page.

    Raises:
        PageError: another paper or version, a number whose words do not say what it is, two numbers for one cell, the
            models in another order than in the tables before, or numbers that cannot be right (a known value differs,
            an accuracy above 100, an MAE above the root of the MSE).
    """
    versions = set(re.findall(r"2405\.13956v\d+", html))
    if versions and VERSION not in versions:
        raise PageError(
            f"the page is {', '.join(sorted(versions))}, not {VERSION}: give https://arxiv.org/html/{VERSION}"
        )
    found: dict[Key, Number] = {}
    order: list[str] = []
    for position, grid in enumerate(read_grids(html), start=1):
        if not _is_result(grid):
            continue
        where = f"table {position} of the page" + (f" ({grid.caption[:60]!r})" if grid.caption else "")
        order = order or _order(grid)
        if _order(grid) != order:
            raise PageError(f"{where} names its models in another order than the tables before: columns swapped")
        for key, value in _read(grid, where):
            if key in found and found[key].value != value.value:
                raise PageError(
                    f"{where}: {_words(key)} is {value.value:g}, but {found[key].value:g} in a table before"
                )
            found.setdefault(key, value)
    if not found:
        raise PageError(
            "no table of the page names both Aaren and Transformer: it is another paper, or its tables changed"
        )
    _check(found)
    return Imported(_lines(found), _missing(found))


def _is_result(grid: Grid) -> bool:
    said = {label for row in grid.rows for text in row for label in labels(text)}
    models, kinds = {label.value for label in said if label.kind == "model"}, {label.kind for label in said}
    return models == set(PAPER_MODELS) and bool({"dataset", "robot"} & kinds)


def _order(grid: Grid) -> list[str]:
    """The models in the order in which the table first names them."""
    named = [label.value for row in grid.rows for text in row for label in labels(text) if label.kind == "model"]
    return list(dict.fromkeys(named))


def _read(grid: Grid, where: str) -> list[tuple[Key, Number]]:
    read: list[tuple[Key, Number]] = []
    for r, row in enumerate(grid.rows):
        for c, text in enumerate(row):
            value = number(text)
            if value is None:
                continue
            beside, above = _beside(grid.rows, r, c), _above(grid.rows, r, c)
            if any(is_average(word) for word in (*row[:c], *(line[c] for line in grid.rows[:r]))) and not (
                {"dataset", "robot"} & {*beside, *above}
            ):
                continue
            both = {kind for kind in beside.keys() & above.keys() if beside[kind] != above[kind]}
            if both:
                raise PageError(
                    f"{where}, row {r + 1}, column {c + 1}: two {both.pop()}s for {text!r}; the layout changed"
                )
            read.append((_key(beside | above, grid.caption, f"{where}, row {r + 1}, column {c + 1} ({text!r})"), value))
    return read


def _above(rows: Sequence[Sequence[str]], r: int, c: int) -> dict[str, str]:
    """The nearest word of each kind above the number."""
    said: dict[str, str] = {}
    for line in reversed(rows[:r]):
        for label in labels(line[c]):
            said.setdefault(label.kind, label.value)
    return said


def _beside(rows: Sequence[Sequence[str]], r: int, c: int) -> dict[str, str]:
    """The nearest word of each kind left of the number; an empty cell there means what stands above it."""
    said: dict[str, str] = {}
    for left in range(c - 1, -1, -1):
        text = next((rows[k][left] for k in range(r, -1, -1) if rows[k][left] or k == 0), "")
        if number(rows[r][left]) is not None:
            continue
        for label in labels(text):
            said.setdefault(label.kind, label.value)
    return said


def _key(said: dict[str, str], caption: str, where: str) -> Key:
    dataset = said.get("dataset")
    if dataset is None and {"robot", "tier"} <= said.keys():
        dataset = f"{said['robot']}-{said['tier']}"
    if dataset is None or dataset not in FAMILY_OF:
        raise PageError(f"{where}: no dataset that is known here stands above or beside it; the table changed")
    model = said.get("model")
    if model is None:
        raise PageError(f"{where}: neither Aaren nor Transformer stands above or beside it; the table changed")
    family = FAMILY_OF[dataset]
    names = [metric.name for metric in metrics_of(family, dataset)]
    metric = said.get("metric") or (names[0] if len(names) == 1 else None)
    if metric not in names:
        raise PageError(
            f"{where}: it is no {' or '.join(names)} of {dataset}, but {metric or 'unnamed'}; the table changed"
        )
    horizon = ""
    if family == "forecasting":
        told = re.search(r"T\s*=\s*(\d+)", caption)
        horizon = said.get("horizon") or (told[1] if told else str(MAIN_HORIZON))
    return dataset, horizon, metric, model


def _check(found: dict[Key, Number]) -> None:
    for (dataset, horizon, metric), known in ANCHORS.items():
        value = found.get((dataset, horizon, metric, _ANCHOR_MODEL))
        if value is None or abs(value.value - known) > 0.005 + 1e-9:
            read = "missing" if value is None else f"{value.value:g}"
            raise PageError(
                f"{_words((dataset, horizon, metric, _ANCHOR_MODEL))} is {read} on the page, but {known:g} in the"
                f" paper: columns swapped, or another version; give https://arxiv.org/html/{VERSION}"
            )
    for key, value in found.items():
        dataset, horizon, metric, model = key
        if metric == "accuracy" and not 0 <= value.value <= 100:
            raise PageError(f"{_words(key)} is {value.value:g}: no accuracy in per cent")
        if metric in ("mse", "rmse") and value.value < 0:
            raise PageError(f"{_words(key)} is {value.value:g}: an error is not negative")
        squared = found.get((dataset, horizon, "mse", model))
        if metric == "mae" and squared is not None and (value.value - 0.005) ** 2 > squared.value + 0.005:
            raise PageError(
                f"{_words(key)} is {value.value:g}, above the root of its MSE {squared.value:g}: columns swapped"
            )


def _missing(found: dict[Key, Number]) -> list[str]:
    lacking: list[str] = []
    for family, datasets in DATASETS.items():
        horizons = [str(h) for h in HORIZONS] if family == "forecasting" else [""]
        for dataset in datasets:
            keys = [
                (dataset, horizon, metric.name, model)
                for horizon in horizons
                for metric in metrics_of(family, dataset)
                for model in PAPER_MODELS
            ]
            lacking += [_words(key) for key in keys if key not in found]
    return lacking


def _lines(found: dict[Key, Number]) -> pd.DataFrame:
    order = {dataset: position for position, dataset in enumerate(FAMILY_OF)}
    lines = []
    for (dataset, horizon, metric, model), value in sorted(
        found.items(), key=lambda item: (order[item[0][0]], item[0])
    ):
        scale = 100.0 if metric == "accuracy" else 1.0
        std = "" if math.isnan(value.std) else f"{value.std / scale:.10g}"
        place = (FAMILY_OF[dataset], dataset, horizon, metric, model)
        lines.append(
            (*place, f"{value.value / scale:.10g}", std, PAPER_SOURCE, PAPER_PROTOCOL, "read off the paper's HTML")
        )
    return pd.DataFrame(lines, columns=list(COLUMNS), dtype=str)


def _words(key: Key) -> str:
    dataset, horizon, metric, model = key
    return f"{model.partition(' (')[0]} on {dataset}" + (f", T={horizon}" if horizon else "") + f", {metric}"
