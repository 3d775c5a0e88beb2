"""The README's result tables: one compact table a family, from the same rows as the full tables.

A line a set: the pair, the ablations that ran, the best rule without training, and the best score there can be where
it is known. Everything left out here (intervals, verdicts, second metrics, published numbers) is in the full tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from tasks.suite.cells import Cell
from tasks.suite.layout import EXCESS_ACTION_ERROR, MAIN_HORIZON
from tasks.suite.rows import Row
from tasks.suite.table import Table

# Key of the full table, metric, title: the order of the page. Two for offline RL: returns hardly tell models apart.
FRONT = (
    ("forecasting", "table3_forecasting", "mse", f"test MSE, horizon {MAIN_HORIZON}"),
    ("classification", "table4_classification", "accuracy", "test accuracy, %"),
    ("events", "table2_events", "nll", "test NLL an event"),
    ("rl", "table1_rl", "normalized_score", "normalised score"),
    ("rl", "table1_rl", EXCESS_ACTION_ERROR.name, "excess action error over the behaviour policy"),
)
NO_RULES = {"truth", "behaviour"}  # what made the data
SOMETIMES = ("best rule", "best reachable", "the data's own policy")
MODELS = {
    "aaren": "Aaren",
    "transformer": "Transformer",
    "aaren_queries": "richer queries (`aaren_queries`)",
    "mean": "uniform scores (`mean`)",
    "none": "no mixing (`none`)",
}


def front_tables(tables: Iterable[Table]) -> str:
    """Markdown: for each family that has results a table, its sets without results, and the rules that won.

    Args:
        tables: what `tables.build` made of one profile and protocol.
    """
    by_key = {table.key: table for table in tables}
    parts: list[str] = []
    for family, main, metric, title in FRONT:
        rows = [row for key in (main, f"extras_{family}") if key in by_key for row in by_key[key].rows]
        rows = [row for row in rows if row.metric is None or row.metric.name == metric]
        rows = [row for row in rows if row.horizon in (None, MAIN_HORIZON)]
        if any(row.cells for row in rows):
            parts.append(_family(title, rows))
    return "\n\n".join(parts)


def _family(title: str, rows: Sequence[Row]) -> str:
    filled = [row for row in rows if any(cell.done for cell in row.cells.values())]
    names = [name for name in MODELS if any(name in row.cells for row in filled)]
    lines: list[dict[str, str]] = []
    for row in filled:
        best = row.best_trained()
        sizes = sorted({n for cell in row.cells.values() if cell.trained for n in cell.n})
        line = {title: row.dataset, "test items": " / ".join(f"{n:,}" for n in sizes)}
        for name in names:
            line[MODELS[name]] = _text(row.cells.get(name), bold=name in best)
        line["best rule"] = _rule(row)
        line["best reachable"] = row.best or _score(row, "truth")
        line["the data's own policy"] = _score(row, "behaviour")
        lines.append(line)
    frame = pd.DataFrame(lines)
    frame = frame.drop(columns=[c for c in SOMETIMES if not (frame[c] != "").any()])
    said = [_list("Without results", [row.dataset for row in rows if not row.cells])]
    said.append(
        _list("A rule without training beats both models on", [text for row in filled if (text := _winners(row))])
    )
    note = " ".join(text for text in said if text)
    return frame.to_markdown(index=False, disable_numparse=True) + (f"\n\n{note}" if note else "")


def _text(cell: Cell | None, bold: bool = False) -> str:
    """`0.412 ± 0.003 (3)`, in bold where it leads."""
    text = cell.text() if cell else ""
    return f"**{text}**" if bold and text else text


def _winners(row: Row) -> str:
    """The set and the rules that are ahead of both models on it, or "" without any."""
    rules = [_words(rule) for rule in row.rules_ahead() if rule.model not in NO_RULES]
    return f"{row.dataset} ({', '.join(rules)})" if rules else ""


def _words(cell: Cell) -> str:
    return cell.model.replace("_", " ")


def _rule(row: Row) -> str:
    """The best rule without training, and its score."""
    rules = [cell for cell in row.cells.values() if not cell.trained and cell.done and cell.model not in NO_RULES]
    if not rules:
        return ""
    best = sorted(rules, key=lambda cell: -cell.mean if cell.higher_is_better else cell.mean)[0]
    return f"{best.mean:.{best.metric.digits}f} ({_words(best)})"


def _score(row: Row, model: str) -> str:
    """The mean alone of a model without spread; "" where there is none, or where it is 0 by definition."""
    cell = row.cells.get(model)
    known = cell is not None and cell.done and row.metric is not EXCESS_ACTION_ERROR
    return f"{cell.mean:.{cell.metric.digits}f}" if cell and known else ""


def _list(what: str, names: Sequence[str]) -> str:
    return f"{what}: {', '.join(names)}." if names else ""
