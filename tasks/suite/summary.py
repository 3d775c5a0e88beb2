"""One line a family: does Aaren keep up with the Transformer over all its datasets, and how sure is that?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.suite.layout import FAMILY_OF, MEAN_HORIZON, Metric
from tasks.suite.margins import MAIN_METRIC, MARGINS, Margin
from tasks.suite.rows import PAIR, Row
from tasks.suite.statistics import (
    FEWEST_DATASETS,
    POSTERIOR,
    UNDECIDED,
    VERDICTS,
    Paired,
    Posterior,
    bayesian_signed_rank,
    iqm,
    judge,
    pair,
    signed_rank,
    stratified_bootstrap,
)

Models = tuple[str, str]
SUMMARY_NOTE = (
    "IQM: interquartile mean over datasets and seeds, its 95 % interval by a bootstrap that resamples seeds within each"
    " dataset. P: Bayesian signed-rank test over datasets; a verdict needs 95 %, two seeds and five datasets. Sets"
    " outside the paper's 38 do not count."
)


def summary_columns(models: Models = PAIR) -> tuple[str, ...]:
    """The columns of a table with one line a family, for the first model against the second."""
    return (
        "metric", "datasets", "seeds", *VERDICTS, f"{models[0]} - {models[1]}, IQM", "signed-rank p", "P(better)",
        "P(equivalent)", "P(worse)", "verdict",
    )  # fmt: skip


@dataclass(frozen=True)
class Summary:
    """One model minus another over datasets, in the margin's unit (per cent of the other's where relative).

    Attributes:
        seeds: fewest and most seeds that a dataset has.
        verdicts: how many rows came to each verdict.
        interval: of the IQM, stratified bootstrap; None with a single seed somewhere.
        p_value: of the signed-rank test.
        models: which minus which.
    """

    metric: Metric
    margin: Margin
    horizon: int | str | None
    datasets: tuple[str, ...]
    seeds: tuple[int, int]
    verdicts: dict[str, int]
    iqm: float
    interval: tuple[float, float] | None
    p_value: float
    posterior: Posterior
    models: Models = PAIR

    @property
    def verdict(self) -> str:
        """By the posterior at 95 %; undecided, and why, with a single seed or fewer than five datasets."""
        if self.seeds[0] < 2:
            return f"{UNDECIDED} (1 seed)"
        if len(self.datasets) < FEWEST_DATASETS:
            return f"{UNDECIDED} ({counted(len(self.datasets), 'dataset')})"
        named = {
            "better": self.posterior.better,
            "equivalent": self.posterior.equivalent,
            "worse": self.posterior.worse,
        }
        likely = max(named, key=lambda name: named[name])
        return likely if named[likely] >= POSTERIOR else UNDECIDED

    @property
    def seeds_text(self) -> str:
        """`3`, or `1 to 3`."""
        low, high = self.seeds
        return f"{low}" if low == high else f"{low} to {high}"

    @property
    def iqm_text(self) -> str:
        """`-1.2 [-3.0, +0.4] %`."""
        digits, unit = (3 if self.margin.size < 0.1 else 1), self.margin.unit
        interval = "" if self.interval is None else " [" + ", ".join(f"{v:+.{digits}f}" for v in self.interval) + "]"
        return f"{self.iqm:+.{digits}f}{interval} {unit}"

    @property
    def p_text(self) -> str:
        """The signed-rank p-value; says so where every difference is zero."""
        return "all zero" if np.isnan(self.p_value) else f"{self.p_value:.3f}"

    def cells(self) -> dict[str, str]:
        """The display strings of `summary_columns`."""
        place = "" if self.horizon is None else f", {_horizon(self.horizon)}"
        rows = [str(self.verdicts.get(name, 0)) for name in VERDICTS]
        chances = [f"{p:.2f}" for p in (self.posterior.better, self.posterior.equivalent, self.posterior.worse)]
        texts = [self.metric.title + place, str(len(self.datasets)), self.seeds_text, *rows, self.iqm_text, self.p_text]
        return dict(zip(summary_columns(self.models), [*texts, *chances, self.verdict], strict=True))

    def numbers(self) -> dict[str, str | float]:
        """The same for other programs: unrounded, the interval in columns of its own."""
        low, high = self.interval or (float("nan"), float("nan"))
        values: list[str | float] = [self.iqm, self.p_value, *self.posterior, self.verdict]
        columns = summary_columns(self.models)[-len(values) :]
        return {**self.cells(), **dict(zip(columns, values, strict=True)), "low": low, "high": high}

    def rule(self) -> str:
        """The margin behind the line, for a note."""
        return f"{self.metric.title}: equivalent within ± {self.margin.text} ({self.margin.why})."

    def sentence(self) -> str:
        """Everything in one note under a table."""
        place = "" if self.horizon is None else f", {_horizon(self.horizon)}"
        rows = ", ".join(f"{self.verdicts.get(name, 0)} {name}" for name in VERDICTS)
        p = self.posterior
        return (
            f"Over {counted(len(self.datasets), 'dataset')} ({self.metric.title}{place}; seeds a dataset:"
            f" {self.seeds_text}): {self.verdict}. Rows: {rows}. {' - '.join(self.models)}, interquartile mean"
            f"{'' if self.interval is None else ' and its 95 % stratified bootstrap interval'}: {self.iqm_text};"
            f" signed-rank p = {self.p_text}; Bayesian signed-rank with ROPE ± {self.margin.size:g} {self.margin.unit}:"
            f" P(better) {p.better:.2f}, P(equivalent) {p.equivalent:.2f}, P(worse) {p.worse:.2f}."
            f" {few(self.seeds[0])}".rstrip()
        )


def verdict(row: Row, models: Models = PAIR) -> str:
    """The row's verdict on one model against another; "" where one of them has no run or no margin is stated."""
    cells = [row.cells.get(name) for name in models]
    margin = MARGINS.get((row.family, row.metric.name)) if row.metric else None
    if margin is None or any(cell is None or not cell.values for cell in cells):
        return ""
    paired = pair(*cells)
    if paired is None:
        return f"{UNDECIDED} (no common seed)"
    if len(paired.differences) < 2:
        return f"{UNDECIDED} (1 seed)"
    return judge(paired, margin.around(paired.baseline)).verdict


def rule(rows: Iterable[Row]) -> str:
    """The sentence that says what a verdict in these rows means; "" where none is given."""
    metrics: dict[Margin, dict[str, None]] = defaultdict(dict)
    for row in rows:
        if row.metric and verdict(row):
            metrics[MARGINS[row.family, row.metric.name]].setdefault(row.metric.title)
    if not metrics:
        return ""
    stated = [f"{' and '.join(titles)}: {margin.text} ({margin.why})" for margin, titles in metrics.items()]
    return (
        "Verdict on aaren against transformer, paired over seeds, by two one-sided t tests at 5 % each: equivalent if"
        " the difference is within the margin, better or worse if it is beyond, else undecided. Margins: "
        + "; ".join(stated)
        + "."
    )


def few(seeds: int) -> str:
    """What a verdict over two to four seeds is worth, in a sentence; "" for one seed (no verdict) and for five or more.

    Args:
        seeds: the fewest of a dataset.
    """
    if not 1 < seeds < 5:
        return ""
    freedom = f"{seeds - 1} degree{'' if seeds == 2 else 's'} of freedom"
    return (
        f"{seeds} seeds are few ({freedom}): a single dataset is undecided unless its seeds agree closely, and that is"
        " no evidence of a difference."
    )


def summarise(
    family: str, rows: Sequence[Row], horizon: int | str | None = None, models: Models = PAIR
) -> Summary | None:
    """The family's main metric over the rows' datasets, each at `horizon`; None if no row has both models.

    Sets outside the paper's 38 do not count.
    """
    name = MAIN_METRIC.get(family)
    own = [row for row in rows if row.metric and row.metric.name == name and row.horizon == horizon]
    own = [row for row in own if (row.origin or row.dataset) in FAMILY_OF]
    pairs: dict[str, Paired] = {}
    for row in own:
        paired = pair(*(row.cells.get(model) for model in models))
        if paired is not None:
            pairs[row.dataset] = paired
    if not pairs or name is None:
        return None
    margin, metric = MARGINS[family, name], next(row.metric for row in own if row.metric)
    groups = {dataset: _in_unit(paired, margin) for dataset, paired in pairs.items()}
    means = [float(np.mean(group)) for group in groups.values()]
    sign = 1.0 if next(iter(pairs.values())).higher_is_better else -1.0
    sizes = [len(group) for group in groups.values()]
    return Summary(
        metric,
        margin,
        horizon,
        tuple(groups),
        (min(sizes), max(sizes)),
        dict(
            Counter(
                verdict(row, models).partition(" (")[0]
                for row in own
                if row.horizon == horizon and row.dataset in pairs
            )
        ),
        float(iqm(np.concatenate([np.asarray(group) for group in groups.values()]))),
        stratified_bootstrap(list(groups.values())) if min(sizes) > 1 else None,
        signed_rank(means),
        bayesian_signed_rank(tuple(sign * mean for mean in means), margin.size),
        models,
    )


def _in_unit(paired: Paired, margin: Margin) -> list[float]:
    scale = 100 / abs(paired.baseline) if margin.relative else 1.0
    return [scale * difference for difference in paired.differences]


def _horizon(horizon: int | str) -> str:
    return "mean over the horizons" if horizon == MEAN_HORIZON else f"horizon {horizon}"


def counted(n: int, what: str) -> str:
    """`1 dataset`, `2 datasets`."""
    return f"{n} {what}" + ("" if n == 1 else "s")
