"""How large a difference must be to matter: one margin a metric, with its reason."""

from __future__ import annotations

from typing import NamedTuple


class Margin(NamedTuple):
    """A difference within ± this counts as none. In printed units, or in per cent of the Transformer's mean."""

    size: float
    relative: bool
    unit: str
    why: str

    def around(self, baseline: float) -> float:
        """Half the width of the region of practical equivalence, in printed units, for a Transformer at `baseline`."""
        return self.size / 100 * abs(baseline) if self.relative else self.size

    @property
    def text(self) -> str:
        """The margin in words, for a note."""
        unit = self.unit.removesuffix("s") if self.size == 1 else self.unit
        return f"{self.size:g} {unit}" + (" of the Transformer's" if self.relative else "")


_ERROR = Margin(
    2.0, True, "%", "two reports of one model's published means differ by 0.6 to 1.5 % (Traffic: MSE 0.628 and 0.624,"
    " MAE 0.345 and 0.340)",
)  # fmt: skip
_POINT = Margin(
    1.0, False, "points", "a test case is worth 0.1 to 0.6 points on most sets, and selecting the epoch on the test set"
    " alone 3 to 4",
)  # fmt: skip

MARGINS: dict[tuple[str, str], Margin] = {
    ("forecasting", "mse"): _ERROR,
    ("forecasting", "mae"): _ERROR,
    ("classification", "accuracy"): _POINT,
    ("events", "nll"): Margin(
        0.02, False, "nats", "where the true likelihood is known, a trained model stays up to 0.03 nats above it"
    ),
    ("events", "rmse"): Margin(2.0, True, "%", "as for the errors of forecasts"),
    ("events", "accuracy"): _POINT,
    ("rl", "normalized_score"): Margin(
        3.0, False, "points", "one method's published means differ by more between code bases (hopper-medium: 65.1,"
        " 67.6 and 69.4; walker2d-medium: 67.6, 74.0 and 75.5)",
    ),
    ("rl", "excess_action_error"): Margin(
        5.0, True, "%", "two models trained alike came within 1 to 4 % of each other wherever both had learnt"
    ),
}  # fmt: skip

# The metric that a family's claim is judged by, as in the paper's tables.
MAIN_METRIC = {"rl": "normalized_score", "events": "nll", "forecasting": "mse", "classification": "accuracy"}
