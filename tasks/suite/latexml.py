"""Tables of a LaTeXML page (arXiv's HTML) as rectangular grids of text: spans filled in, formulas read once."""

from __future__ import annotations

import re
from typing import NamedTuple

from bs4 import BeautifulSoup, Tag

_LARGEST = 500  # rows or columns: a span beyond this is damage, not a table
# Inside a formula these repeat what the presentation already says; notes are set beside the text.
_UNREAD = ("annotation", "annotation-xml", "script", "style")


class PageError(ValueError):
    """A page that cannot be read as expected; says what is different and what to do."""


class Grid(NamedTuple):
    """One table: its caption, and its cells as rows of equal length (a spanning cell is repeated)."""

    caption: str
    rows: list[list[str]]


def read_grids(html: str) -> list[Grid]:
    """Every outermost `ltx_tabular` of the page, in order.

    Raises:
        PageError: no such table, or spans that do not fit together.
    """
    page = BeautifulSoup(html, "html.parser")
    for tag in page.find_all(_UNREAD):
        tag.decompose()
    for tag in page.select(".ltx_note, .ltx_tag_note"):
        tag.decompose()
    tables = [table for table in page.select(".ltx_tabular") if table.find_parent(class_="ltx_tabular") is None]
    if not tables:
        raise PageError("the page has no ltx_tabular: it is not arXiv's HTML of a paper (its abstract page? a PDF?)")
    return [Grid(_caption(table), _rows(table, number)) for number, table in enumerate(tables, start=1)]


def _caption(table: Tag) -> str:
    figure = table.find_parent(class_=re.compile(r"^ltx_(table|figure|float)$"))
    caption = figure.select_one(".ltx_caption") if isinstance(figure, Tag) else None
    return _text(caption) if caption is not None else ""


def _rows(table: Tag, number: int) -> list[list[str]]:
    lines = [line for line in table.select(".ltx_tr") if line.find_parent(class_="ltx_tabular") is table]
    placed: dict[tuple[int, int], str] = {}
    for r, line in enumerate(lines):
        c = 0
        for cell in (cell for cell in line.select(".ltx_td") if cell.find_parent(class_="ltx_tr") is line):
            while (r, c) in placed:
                c += 1
            height, width = _span(cell, "rowspan", number), _span(cell, "colspan", number)
            for place in ((r + i, c + j) for i in range(height) for j in range(width)):
                if place in placed:
                    raise PageError(f"table {number} of the page: the spans of row {r + 1} overlap")
                placed[place] = _text(cell)
            c += width
    width = max((c for _, c in placed), default=-1) + 1
    return [[placed.get((r, c), "") for c in range(width)] for r in range(len(lines))]


def _span(cell: Tag, name: str, number: int) -> int:
    text = str(cell.get(name) or "1").strip()
    if not text.isdigit() or not 1 <= int(text) <= _LARGEST:
        raise PageError(f"table {number} of the page: {name}={text!r} is no number of cells")
    return int(text)


def _text(tag: Tag) -> str:
    """The words of a cell: one space between them, a plain minus, and a plus-minus that is one character."""
    text = tag.get_text(" ").replace("\N{MINUS SIGN}", "-").replace(r"\pm", "±").replace("+/-", "±")
    return re.sub(r"\s+", " ", text.replace("\N{INVISIBLE TIMES}", "").replace("\N{ZERO WIDTH SPACE}", "")).strip()
