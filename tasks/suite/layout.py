"""Which tables there are: the paper's four and the horizon appendix, their rows in the paper's order, their metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Metric(NamedTuple):
    """How a metric of the records is printed: its value times `scale`, with `digits` decimals."""

    name: str
    title: str
    scale: float = 1.0
    digits: int = 3


@dataclass(frozen=True)
class Layout:
    """One table: a row for each dataset, horizon and metric.

    `horizons` empty: the family has none. `average` adds a row with the mean over all horizons (the published
    averages are of that kind).
    """

    key: str
    title: str
    family: str
    datasets: tuple[str, ...]
    metrics: tuple[Metric, ...]
    horizons: tuple[int, ...] = ()
    average: bool = False

    @property
    def judged_at(self) -> int | str | None:
        """The horizon at which a dataset counts in the family's verdict: their mean where the table has it."""
        if not self.horizons:
            return None
        return MEAN_HORIZON if self.average else MAIN_HORIZON


METRICS = {
    "rl": (Metric("normalized_score", "normalised score", digits=1),),
    "events": (Metric("nll", "NLL"), Metric("rmse", "RMSE"), Metric("accuracy", "accuracy, %", 100.0, 1)),
    "forecasting": (Metric("mse", "MSE"), Metric("mae", "MAE")),
    "classification": (Metric("accuracy", "accuracy, %", 100.0, 1),),
}

DATASETS = {
    "rl": tuple(
        f"{robot}-{data}"
        for robot in ("halfcheetah", "ant", "hopper", "walker2d")
        for data in ("medium", "medium-replay", "medium-expert")
    ),
    "events": ("MIMIC", "Wiki", "Reddit", "MOOC", "StackOverflow", "Sin", "Uber", "Taxi"),
    "forecasting": ("Weather", "Exchange", "Traffic", "ECL", "ETTh1", "ETTh2", "ETTm1", "ETTm2"),
    "classification": (
        "EthanolConcentration", "FaceDetection", "Handwriting", "Heartbeat", "JapaneseVowels", "PEMS-SF",
        "SelfRegulationSCP1", "SelfRegulationSCP2", "SpokenArabicDigits", "UWaveGestureLibrary",
    ),
}  # fmt: skip

MAIN_HORIZON = 192
MEAN_HORIZON = "mean"  # the mean over HORIZONS
HORIZONS = (96, 192, 336, 720)
UNMARKED = frozenset({"Sin", "Uber", "Taxi"})  # event sets without marks: no accuracy to report

LAYOUTS = (
    Layout("table1_rl", "Reinforcement learning", "rl", DATASETS["rl"], METRICS["rl"]),
    Layout("table2_events", "Event forecasting", "events", DATASETS["events"], METRICS["events"]),
    Layout(
        "table3_forecasting",
        f"Time series forecasting, horizon {MAIN_HORIZON}",
        "forecasting",
        DATASETS["forecasting"],
        METRICS["forecasting"],
        (MAIN_HORIZON,),
    ),
    Layout(
        "table4_classification",
        "Time series classification",
        "classification",
        DATASETS["classification"],
        METRICS["classification"],
    ),
    Layout(
        "horizons",
        "Time series forecasting, every horizon",
        "forecasting",
        DATASETS["forecasting"],
        METRICS["forecasting"],
        HORIZONS,
        average=True,
    ),
)
FAMILY_OF = {dataset: family for family, datasets in DATASETS.items() for dataset in datasets}


# Where the behaviour policy is known: far quieter than returns, which hardly tell one model from another.
EXCESS_ACTION_ERROR = Metric("excess_action_error", "excess action error", digits=4)


def metrics_of(family: str, dataset: str) -> tuple[Metric, ...]:
    """The metrics a dataset is reported by; an unknown family has none, an unmarked event set no accuracy."""
    return tuple(m for m in METRICS.get(family, ()) if not (m.name == "accuracy" and dataset in UNMARKED))


def extra_metrics_of(family: str, dataset: str, variant: str | None) -> tuple[Metric, ...]:
    """The metrics of a row outside the paper's tables: with the distance to the behaviour policy where that is known.

    It leads where velocities are hidden (`known/`): there it is what tells the models apart.
    """
    metrics = metrics_of(family, dataset)
    if family != "rl" or variant == "official":
        return metrics
    return (EXCESS_ACTION_ERROR, *metrics) if dataset.startswith("known/") else (*metrics, EXCESS_ACTION_ERROR)
