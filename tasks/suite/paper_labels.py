"""What the words around a number in the paper's tables mean: a dataset, a model, a metric, a horizon."""

from __future__ import annotations

import re
from typing import NamedTuple

from tasks.suite.layout import DATASETS, HORIZONS

KINDS = ("model", "dataset", "robot", "tier", "metric", "horizon")


class Label(NamedTuple):
    """One thing a cell of words says: its kind (one of KINDS) and the project's name for it."""

    kind: str
    value: str


_NAMES: dict[str, list[Label]] = {
    "aaren": [Label("model", "Aaren (paper)")],
    "transformer": [Label("model", "Transformer (paper)")],
    "nll": [Label("metric", "nll")],
    "rmse": [Label("metric", "rmse")],
    "mse": [Label("metric", "mse")],
    "mae": [Label("metric", "mae")],
    "acc": [Label("metric", "accuracy")],
    "accuracy": [Label("metric", "accuracy")],
    "d4rlscore": [Label("metric", "normalized_score")],
    "score": [Label("metric", "normalized_score")],
    "normalizedscore": [Label("metric", "normalized_score")],
    "normalisedscore": [Label("metric", "normalized_score")],
}
_OTHER_NAMES = {
    "ECL": ("electricity",), "StackOverflow": ("so",), "UWaveGestureLibrary": ("uwave", "uwavegesture"),
    "SpokenArabicDigits": ("spokenarabic", "arabicdigits"), "SelfRegulationSCP1": ("scp1", "selfregscp1"),
    "SelfRegulationSCP2": ("scp2", "selfregscp2"), "EthanolConcentration": ("ethanol",), "PEMS-SF": ("pems",),
    "JapaneseVowels": ("japanesevowel",), "Wiki": ("wikipedia",), "Exchange": ("exchangerate",),
}  # fmt: skip
_ROBOTS = {"halfcheetah": "halfcheetah", "ant": "ant", "hopper": "hopper", "walker": "walker2d", "walker2d": "walker2d"}
_TIERS = {"medium": "medium", "mediumreplay": "medium-replay", "mediumexpert": "medium-expert"}
_AVERAGES = frozenset({"avg", "average", "mean", "overall", "total"})

for _family, _datasets in DATASETS.items():
    for _dataset in _datasets:
        for _name in (_dataset, *_OTHER_NAMES.get(_dataset, ())):
            if _family != "rl":
                _NAMES[re.sub(r"[^a-z0-9]", "", _name.casefold())] = [Label("dataset", _dataset)]
for _robot, _known in _ROBOTS.items():
    _NAMES[_robot] = [Label("robot", _known)]
    for _tier, _kind in _TIERS.items():
        _NAMES[_robot + _tier] = [Label("robot", _known), Label("tier", _kind)]
        _NAMES[_tier] = [Label("tier", _kind)]


def labels(text: str) -> list[Label]:
    """What a cell of words says; [] for words that name nothing here (a unit, `Dataset`, an empty cell).

    Case, hyphens, brackets and arrows do not matter; `Acc. (%)` is accuracy, `T = 192` or a bare 192 a horizon.
    """
    horizon = re.fullmatch(r"(?:T\s*=\s*)?(\d+)", text.strip())
    if horizon and int(horizon[1]) in HORIZONS:
        return [Label("horizon", horizon[1])]
    word = re.sub(r"[^a-z0-9]", "", re.sub(r"\(.*?\)", "", text).casefold())
    return _NAMES.get(word, [])


def is_average(text: str) -> bool:
    """Whether a cell of words heads a mean over datasets, which is no number of any of them."""
    return re.sub(r"[^a-z]", "", text.casefold()) in _AVERAGES


class Number(NamedTuple):
    """A printed mean, and its spread (NaN if none was printed)."""

    value: float
    std: float


def number(text: str) -> Number | None:
    """`42.2 ± 0.1`, `42.2`, `-0.5 (0.1)` as numbers; None for words, and for a bare integer that is a horizon."""
    found = re.fullmatch(r"\s*(-?\s?\d*\.?\d+)\s*%?\s*(?:(?:±\s*|\()(\d*\.?\d+)\)?\s*%?)?\s*", text)
    if not found or labels(text):
        return None
    return Number(float(found[1].replace(" ", "")), float(found[2]) if found[2] else float("nan"))
