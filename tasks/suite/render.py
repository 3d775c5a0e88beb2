"""A table as markdown, LaTeX (booktabs), CSV or HTML, written by pandas."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import replace

import pandas as pd
from jinja2 import Environment
from markupsafe import Markup
from pandas.io.formats.style import Styler

from tasks.suite.table import Table
from tasks.suite.tables import PUBLISHED

NOTE = ("", "note")
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "[": "{[}", "]": "{]}", '"': r"\textquotedbl{}",
    "±": r"$\pm$", "†": r"$\dagger$", "‡": r"$\ddagger$", "–": "--", "—": "---", "’": "'", "×": r"$\times$",
}  # fmt: skip
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
caption { text-align: left; margin-bottom: .6rem; }
th, td { padding: .25rem .6rem; text-align: left; border-bottom: 1px solid #8884; vertical-align: top; }
td { font-variant-numeric: tabular-nums; }
</style>
</head>
<body>
<div class="wide">
{{ table }}
</div>
<ul>
{%- for note in notes %}
<li>{{ note }}</li>
{%- endfor %}
</ul>
</body>
</html>
"""


def render(table: Table, extension: str) -> str:
    """The table's text in the format of a file extension: md, tex, csv or html."""
    return {"md": markdown, "tex": latex, "csv": csv, "html": page}[extension](table)


def csv(table: Table) -> str:
    """One line a cell, numbers unrounded; a dataset without results has one line with its note."""
    return table.tidy.to_csv(index=False, lineterminator="\n")


def markdown(table: Table) -> str:
    """A pipe table under its caption, notes as a list below."""
    cells = table.shown.map(_escape_markdown)
    cells = cells.mask(table.bold, "**" + cells + "**")
    cells.columns = pd.Index([_escape_markdown(name) for name in flat_names(table)])
    body = cells.to_markdown(index=False, disable_numparse=True)
    notes = "\n".join(f"- {_escape_markdown(note)}" for note in table.notes)
    return f"**{_escape_markdown(table.title)}**\n\n{_escape_markdown(table.caption)}\n\n{body}\n" + (
        f"\n{notes}\n" if notes else ""
    )


def latex(table: Table) -> str:
    """A booktabs `table` no wider than the text, or a `longtable` in the smallest print for more than 40 rows.

    Packages booktabs, longtable and graphicx. The notes of rows stand below, where they have the width of the page.
    """
    shown, said = table.shown, []
    if NOTE in shown.columns:
        places = [column for column in shown.columns if column[1] in ("dataset", "horizon", "metric")]
        for where, note in zip(shown[places].to_numpy(), shown[NOTE], strict=True):
            said += [f"{', '.join(filter(None, where))}: {note}"] if note else []
        table = replace(table, shown=shown.drop(columns=[NOTE]), bold=table.bold.drop(columns=[NOTE]))
    long = len(table.shown) > 40
    text = _styled(table, escape_latex).to_latex(
        column_format="".join("p{1.5cm}" if group == PUBLISHED else "l" for group, _ in table.shown.columns),
        hrules=True,
        convert_css=True,
        multicol_align="l",
        caption=escape_latex(table.caption),
        label=f"tab:{table.key}",
        environment="longtable" if long else None,
        position=None if long else "tbp",
    )
    if long:
        text = f"{{\\tiny\\setlength{{\\tabcolsep}}{{2pt}}\n{text}}}\n"
    else:
        fit = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{"
        text = text.replace(r"\begin{tabular}", fit + r"\begin{tabular}").replace(r"\end{tabular}", r"\end{tabular}}")
    notes = "\n".join(f"\\par {escape_latex(note)}" for note in (*said, *table.notes))
    needs = "% \\usepackage{booktabs,longtable,graphicx}\n"
    return needs + text + (f"{{\\footnotesize\n{notes}\n}}\n" if notes else "")


def page(table: Table) -> str:
    """A page of its own: needs no network, wide tables scroll, light and dark."""
    style = _styled(table, html.escape).set_caption(html.escape(table.caption)).set_uuid(table.key)
    body = style.to_html(cell_ids=False, doctype_html=False, table_attributes=f'id="{table.key}"')
    template = Environment(autoescape=True, keep_trailing_newline=True).from_string(_PAGE)
    return template.render(title=table.title, table=Markup(body), notes=table.notes)


def flat_names(table: Table) -> list[str]:
    """Column headers on one line: a published number says so in its own header."""
    return [f"published: {name}" if group == PUBLISHED else name for group, name in table.shown.columns]


def escape_latex(text: str) -> str:
    """`text` for LaTeX; a character outside ASCII that has no entry here becomes a question mark."""
    escaped = "".join(_LATEX.get(character, character) for character in str(text))
    return escaped.encode("ascii", "replace").decode()


def _escape_markdown(text: str) -> str:
    text = re.sub(r"\s*\n\s*", " ", str(text))
    return re.sub(r"([\\|*<>`]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", text)  # an underscore inside a word is safe


def _styled(table: Table, escape: Callable[[str], str]) -> Styler:
    shown, bold = table.shown, table.bold
    if not any(shown.columns.get_level_values(0)):  # no groups: one header line
        shown, bold = shown.droplevel(0, axis=1), bold.droplevel(0, axis=1)
    weights = bold.map(lambda is_best: "font-weight: bold" if is_best else "")
    style = shown.style.apply(lambda _: weights, axis=None)
    style.format(escape)
    style.format_index(escape, axis=1)
    return style.hide(axis="index")
