"""The paper's tables in LaTeXML's form, as arXiv writes them: read wherever they stand, refused where they changed."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from html import escape
from pathlib import Path

import pytest

from tasks.suite.latexml import PageError, read_grids
from tasks.suite.layout import DATASETS, HORIZONS, UNMARKED, metrics_of
from tasks.suite.paper import read_paper
from tasks.suite.paper_labels import labels, number
from tasks.suite.references import COLUMNS, PAPER_MODELS, load_references

ROOT = Path(__file__).resolve().parents[3]
MODELS = ("Aaren", "Transformer")


def math_cell(mean, std=None):
    """A number as LaTeXML writes `$0.65 \\pm 0.01$`: presentation, content and TeX side by side."""
    if std is None:
        return f'<math class="ltx_Math"><semantics><mn>{mean}</mn><annotation>{mean}</annotation></semantics></math>'
    return (
        f'<math alttext="{mean}\\pm {std}" class="ltx_Math" display="inline"><semantics><mrow><mn>{mean}</mn><mo>±</mo>'
        f'<mn>{std}</mn></mrow><annotation-xml encoding="MathML-Content"><apply><csymbol>plus-or-minus</csymbol>'
        f"<cn>{mean}</cn><cn>{std}</cn></apply></annotation-xml><annotation"
        f' encoding="application/x-tex">{mean}\\pm {std}</annotation></semantics></math>'
    )


def cell(content, rows=1, columns=1, head=False):
    tag, extra = ("th", " ltx_th ltx_th_column") if head else ("td", "")
    spans = (f' rowspan="{rows}"' if rows > 1 else "") + (f' colspan="{columns}"' if columns > 1 else "")
    return f'<{tag} class="ltx_td ltx_align_center{extra}"{spans}>{content}</{tag}>'


def table(caption, lines):
    body = "".join(f'<tr class="ltx_tr">{"".join(line)}</tr>' for line in lines)
    words = f'<figcaption class="ltx_caption"><span class="ltx_tag">Table: </span>{escape(caption)}</figcaption>'
    grid = f'<table class="ltx_tabular ltx_centering"><tbody class="ltx_tbody">{body}</tbody></table>'
    return f'<figure class="ltx_table">{words}{grid}</figure>'


def score(dataset, metric, model, horizon=None):
    """Any number, different for every cell, with the two known ones in place."""
    if (dataset, horizon, model) == ("ETTh1", 336, "Aaren"):
        return {"mse": 0.65, "mae": 0.55}[metric]
    spread = (sum(map(ord, dataset + metric + model)) + (horizon or 0)) % 37
    return {"mse": 0.70, "mae": 0.45, "nll": 1.2, "rmse": 0.8}.get(metric, 50.0) + spread / 100


def _printed(*key, std="0.01"):
    return cell(math_cell(f"{score(*key):.2f}", std))


def rl(models=MODELS):
    """Robot in a spanning cell, tier beside it."""
    names = {"halfcheetah": "HalfCheetah", "ant": "Ant", "hopper": "Hopper", "walker2d": "Walker"}
    lines = [[cell("Dataset", columns=2, head=True), *(cell(model, head=True) for model in models)]]
    for robot, name in names.items():
        for position, tier in enumerate(("medium", "medium-replay", "medium-expert")):
            first = [cell(name, rows=3)] if position == 0 else []
            words = tier.replace("-", " ").title()
            values = [_printed(f"{robot}-{tier}", "normalized_score", model) for model in models]
            lines.append([*first, cell(words), *values])
    return table("D4RL normalised scores", lines)


def events():
    """Metric and model down the side, datasets along the top."""
    lines = [[cell("Metric", head=True), cell("Model", head=True), *(cell(d, head=True) for d in DATASETS["events"])]]
    for metric, words in (("nll", "NLL (↓)"), ("rmse", "RMSE (↓)"), ("accuracy", "Acc (↑)")):
        for position, model in enumerate(MODELS):
            values = [
                cell("–") if metric == "accuracy" and d in UNMARKED else _printed(d, metric, model)
                for d in DATASETS["events"]
            ]
            lines.append([cell(words, rows=2)] * (position == 0) + [cell(model), *values])
    return table("Event forecasting", lines)


def forecasting(horizons=(192,), swap=lambda metric, model: (metric, model)):
    """MSE and MAE span two models each; with several horizons a column of their own."""
    several = len(horizons) > 1
    lead = [cell("Dataset", rows=2, head=True)] + [cell("T", rows=2, head=True)] * several
    lines = [
        [*lead, cell("MSE", columns=2, head=True), cell("MAE", columns=2, head=True)],
        [cell(model, head=True) for _ in range(2) for model in MODELS],
    ]
    for dataset in DATASETS["forecasting"]:
        for position, horizon in enumerate(horizons):
            first = [cell(dataset, rows=len(horizons))] if position == 0 else []
            first += [cell(math_cell(horizon))] * several
            pairs = [swap(metric, model) for metric in ("mse", "mae") for model in MODELS]
            lines.append([*first, *(_printed(dataset, metric, model, horizon) for metric, model in pairs)])
    return table("Forecasting" if several else "Forecasting, T=192", lines)


def classification(change=lambda dataset: dataset, average=True):
    lines = [[cell("", head=True), *(cell(f"<b>{model}</b>", head=True) for model in MODELS)]]
    for dataset in DATASETS["classification"]:
        lines.append([cell(change(dataset)), *(_printed(dataset, "accuracy", model) for model in MODELS)])
    lines += [[cell("Average"), *(cell(math_cell("51.0")) for _ in MODELS)]] * average
    return table("Classification, accuracy (%)", lines)


def parameters():
    """A table that names both models but no dataset: not a result."""
    return table("Parameters", [[cell("Model"), cell("Count")], *([cell(m), cell(math_cell("3.15"))] for m in MODELS)])


def page(*tables, version="2405.13956v2"):
    return f"<html><body><div>arXiv:{version} [cs.LG]</div>{''.join(tables)}</body></html>"


def whole(**changes):
    made = {"rl": rl, "events": events, "main": forecasting, "all": lambda: forecasting(HORIZONS)}
    made |= {"classification": classification, "parameters": parameters} | changes
    return page(*(make() for make in made.values()))


def test_every_table_is_read_to_its_cells():
    imported = read_paper(whole())
    assert imported.missing == []
    lines = imported.lines
    assert tuple(lines.columns) == COLUMNS
    found = {
        (line["dataset"], line["horizon"], line["metric"], line["model"]): line for line in lines.to_dict("records")
    }
    expected = 0
    for family, datasets in DATASETS.items():
        for dataset in datasets:
            for metric in metrics_of(family, dataset):
                for horizon in HORIZONS if family == "forecasting" else (None,):
                    for model, name in zip(MODELS, PAPER_MODELS, strict=True):
                        line = found[dataset, "" if horizon is None else str(horizon), metric.name, name]
                        scale = 100 if metric.name == "accuracy" else 1
                        printed = round(score(dataset, metric.name, model, horizon), 2)
                        assert float(line["value"]) * scale == pytest.approx(printed), line
                        assert float(line["std"]) * scale == pytest.approx(0.01)
                        expected += 1
    assert len(lines) == expected


def test_spans_formulas_and_nested_tables():
    lines = [
        [cell("a", rows=2, columns=2), cell(math_cell("0.65", "0.01"))],
        [cell('<table class="ltx_tabular"><tr class="ltx_tr"><td class="ltx_td">in</td></tr></table>')],
        [cell("b<span class='ltx_note'>1</span>"), cell("−1.5")],
    ]
    (grid,) = read_grids(table("Caption &", lines))
    assert grid.caption == "Table: Caption &"
    assert grid.rows == [["a", "a", "0.65 ± 0.01"], ["a", "a", "in"], ["b", "-1.5", ""]]
    spans = "".join(f'<span class="ltx_td">{word}</span>' for word in "xy")
    (grid,) = read_grids(f'<span class="ltx_tabular"><span class="ltx_tr">{spans}</span></span>')
    assert grid == ("", [["x", "y"]])


def test_damaged_spans_are_refused():
    for bad in ("0", "-1", "two", "99999"):
        with pytest.raises(PageError, match="table 1 of the page: rowspan="):
            read_grids(table("", [[cell("a").replace("<td", f'<td rowspan="{bad}"')]]))


def _swap_models(metric, model):
    return metric, {"Aaren": "Transformer", "Transformer": "Aaren"}[model]


def _swap_metrics(metric, model):
    return {"mse": "mae", "mae": "mse"}[metric], model


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"all": lambda: forecasting(HORIZONS, _swap_models)}, "columns swapped|in a table before"),
        ({"main": lambda: "", "all": lambda: forecasting(HORIZONS, _swap_models)}, "Aaren on ETTh1, T=336, mse is"),
        (
            {"main": lambda: "", "all": lambda: forecasting(HORIZONS, _swap_metrics)},
            "0.65 in the paper: columns swapped",
        ),
        ({"main": lambda: forecasting((192,), _swap_metrics), "all": lambda: ""}, "missing on the page"),
        ({"main": lambda: forecasting((192,), _swap_metrics)}, "0.4.* in a table before|in a table before"),
        ({"rl": lambda: rl(MODELS[::-1])}, "another order than the tables before: columns swapped"),
        ({"all": lambda: forecasting((96, 192, 720))}, "Aaren on ETTh1, T=336, mse is missing"),
        (
            {"classification": lambda: classification(lambda d: d.replace("PEMS-SF", "PEMS-LA"))},
            r"no dataset .* changed",
        ),
        ({"events": lambda: events().replace("Acc (↑)", "F1 (↑)")}, "it is no nll or rmse or accuracy of MIMIC"),
        ({"rl": lambda: rl().replace(">Aaren<", ">Mamba<")}, "lacks"),
    ],
)
def test_changed_pages_are_refused_by_what_changed(changes, message, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(whole(**changes), encoding="utf-8")
    try:
        lacking = len(read_paper(path.read_text(encoding="utf-8")).missing)
        said = f"the page lacks {lacking}" if lacking else ""
    except PageError as error:
        said = str(error)
    assert re.search(message, said), said


@pytest.mark.parametrize(
    ("html", "message"),
    [
        ("<html><body><p>Abstract</p></body></html>", "no ltx_tabular"),
        (page(parameters()), "names both Aaren and Transformer"),
        (page(rl(), version="2405.13956v3"), "is 2405.13956v3, not 2405.13956v2"),
        (page(rl(), version="2405.13956v1"), "give https://arxiv.org/html/2405.13956v2"),
    ],
)
def test_another_page_is_refused(html, message):
    with pytest.raises(PageError, match=message):
        read_paper(html)


def test_numbers_that_cannot_be_right_are_refused():
    with pytest.raises(PageError, match="accuracy is 150: no accuracy in per cent"):
        read_paper(whole(classification=lambda: classification().replace(_japanese(), cell(math_cell("150.0")))))
    lines = [[cell(""), cell("ECL")], [cell("Weather"), cell(math_cell("0.5"))], [cell(model) for model in MODELS]]
    with pytest.raises(PageError, match=r"two datasets for '0\.5'; the layout changed"):
        read_paper(whole(more=lambda: table("again", lines)))


def _japanese():
    return _printed("JapaneseVowels", "accuracy", "Aaren")


def test_labels_and_numbers():
    assert [label.value for label in labels("Hopper-Medium-Replay")] == ["hopper", "medium-replay"]
    assert [label.value for label in labels("Acc. (%) ↑")] == ["accuracy"]
    assert [label.value for label in labels("T = 336")] == ["336"]
    assert labels("Model") == labels("12") == labels("") == []
    assert number("42.16 ± 0.59") == (42.16, 0.59)
    assert number("-0.5 (0.1)") == (-0.5, 0.1)
    assert math.isnan(number("97.0 %").std)
    assert number("192") is None
    assert number("0.3 to 0.4") is None
    assert number("–") is None


def _script(*arguments):
    command = [sys.executable, "scripts/import_paper.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)


def test_the_script_writes_what_the_tables_load(tmp_path):
    source, out = tmp_path / "page.html", tmp_path / "references" / "imported" / "paper.csv"
    source.write_text(whole(), encoding="utf-8")
    done = _script("--html", source, "--out", out)
    assert done.returncode == 0, done.stderr
    frame = load_references(out.parent)
    assert set(frame["model"]) == set(PAPER_MODELS)
    assert len(load_references(tmp_path / "references", imported=True)) == len(frame)
    source.write_text(whole(rl=lambda: ""), encoding="utf-8")
    done = _script("--html", source, "--out", tmp_path / "second.csv")
    assert done.returncode == 2
    assert "lacks 24 of the paper's results (Aaren on halfcheetah-medium" in done.stderr
    assert "--partial" in done.stderr
    assert not (tmp_path / "second.csv").exists()


def test_the_script_says_what_to_do_without_a_page(tmp_path):
    done = _script("--html", tmp_path / "absent.html")
    assert done.returncode == 2
    assert "absent.html" in done.stderr
    done = _script("--html", "http://127.0.0.1:9/html")
    assert done.returncode == 2
    assert "save the page with a browser and give the file: --html FILE" in done.stderr
