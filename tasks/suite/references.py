"""Published numbers to hold ours against: `results/reference/*.csv`, one number a line, each with its source."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tasks.suite.layout import MEAN_HORIZON

COLUMNS = (
    "family", "dataset", "horizon", "metric", "model", "value", "std", "source", "protocol", "note",
)  # fmt: skip
REFERENCE_FOLDER = Path(__file__).resolve().parents[2] / "results" / "reference"
IMPORTED = "imported"  # the folder below it that scripts/import_paper.py writes and git ignores
PAPER_MODELS = ("Aaren (paper)", "Transformer (paper)")
PAPER_SOURCE = "Feng et al. 2024, Attention as an RNN, arXiv 2405.13956v2"
PAPER_PROTOCOL = "the paper's; 5 seeds"
NOT_IMPORTED = "not imported"
_KEY = ["family", "dataset", "horizon", "metric", "model", "source"]


class ReferenceTableError(ValueError):
    """A reference file that breaks its schema; the message names file, line, column and the way out."""


def load_references(folder: Path = REFERENCE_FOLDER, *, imported: bool = False) -> pd.DataFrame:
    """Every published number in `folder`, in file order; with `imported` also those read from the paper itself.

    An imported number replaces a shipped one of the same row, metric and model.

    Columns: family, dataset (the printed label), horizon ("" for none, a number, or "mean"), metric, model, value and
    std (float, std NaN if not published; accuracy as a fraction, as in the records), source, protocol, note.

    Raises:
        ReferenceTableError: wrong columns, an empty required field, a value that is no number, or the same key twice.
    """
    own, more = sorted(Path(folder).glob("*.csv")), sorted((Path(folder) / IMPORTED).glob("*.csv")) if imported else []
    frames = [_load(path) for path in (*own, *more)]
    if not frames:
        return pd.DataFrame(columns=list(COLUMNS))
    together = pd.concat(frames, ignore_index=True)
    return together.drop_duplicates(_KEY, keep="last", ignore_index=True) if more else together


def _load(path: Path) -> pd.DataFrame:
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    if tuple(frame.columns) != COLUMNS:
        raise ReferenceTableError(f"{path}: line 1: the columns must be {', '.join(COLUMNS)}")
    for column in ("family", "dataset", "metric", "model", "value", "source", "protocol"):
        _refuse(path, frame, frame[column].str.strip() == "", column, "is empty")
    known = frame["horizon"].isin(["", MEAN_HORIZON]) | frame["horizon"].str.fullmatch(r"[1-9]\d*")
    _refuse(path, frame, ~known, "horizon", "must be empty, a positive number or 'mean'")
    for column in ("value", "std"):
        numbers = pd.Series(pd.to_numeric(frame[column].replace("", float("nan")), errors="coerce"))
        _refuse(path, frame, numbers.isna() & (frame[column] != ""), column, "is not a number")
        frame[column] = numbers
    outside = (frame["metric"] == "accuracy") & ~frame["value"].between(0, 1)
    _refuse(path, frame, outside, "value", "must be a fraction: accuracy is in [0, 1] here")
    _refuse(path, frame, frame.duplicated(_KEY), "model", "repeats an earlier line's number")
    return frame


def _refuse(path: Path, frame: pd.DataFrame, bad: pd.Series, column: str, what: str) -> None:
    if bad.any():
        row = int(bad.to_numpy().argmax())
        raise ReferenceTableError(
            f"{path}: line {row + 2}: {column} {what} ({frame[column].iloc[row]!r}); mend the line"
        )
