"""A strict reader of the UEA archive's multivariate `.arff` files (relational ARFF, as Weka writes it).

    @relation 'Heartbeat'
    @attribute relationalAtt relational
    @attribute att0 numeric                  one inner attribute for each time step
    @end relationalAtt
    @attribute class {normal,abnormal}
    @data
    'c1t1,c1t2,...\\nc2t1,c2t2,...',normal    channels parted by a literal backslash and n

ARFF itself declares `?` as missing. Sets of unequal lengths are padded with it: steps at the end that are
missing in every channel are no steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from tasks.classification.panel import Panel, PanelBuilder
from tasks.classification.text import line_error, parse_channel, read_lines
from tasks.errors import DatasetError
from tasks.files import FETCH_AGAIN


def read_arff(path: Path) -> Panel:
    """Reads one part (TRAIN or TEST) of a multivariate `.arff` set. Raises DatasetError with file, line,
    reason.
    """
    lines = read_lines(path)
    steps, classes = _read_header(path, lines)
    builder = PanelBuilder(path, classes)
    for number, raw in lines:
        line = raw.strip(b" \t\r\n")
        if not line or line.startswith(b"%"):
            continue
        error = partial(line_error, path, number)
        body, quote, name = line[1:].rpartition(line[:1])
        if line[:1] in b"'\"" and name == b"":  # the label is quoted as well: 'series','label'
            body, quote, name = line[1:].partition(line[:1])
        if line[:1] not in b"'\"" or not quote or not name.startswith(b","):
            raise error("not of the form 'channels',label: the line is cut short, or no case")
        label = _unquote(name[1:].decode("utf-8", "replace"))
        if not raw.endswith(b"\n") and any(other != label and other.startswith(label) for other in classes):
            raise error(f"the file ends inside a line, and the label {label!r} may be cut short")
        channels = [parse_channel(text, True, error) for text in body.split(b"\\n")]
        wrong = next((len(channel) for channel in channels if len(channel) != steps), None)
        if wrong is not None:
            raise error(f"a channel of {wrong} values where {steps} attributes are declared")
        case = np.array(channels, dtype=np.float64).T
        known = np.flatnonzero(~np.isnan(case).all(axis=1))
        if not len(known):
            raise error("every value of the series is missing")
        builder.add(number, case[: known[-1] + 1], label)
    return builder.panel()


def _read_header(path: Path, lines: Iterator[tuple[int, bytes]]) -> tuple[int, tuple[str, ...]]:
    """The number of time steps and the class names; consumes the lines up to and with `@data`."""
    steps, inside, relational, classes = 0, False, False, ()
    for number, raw in lines:
        error = partial(line_error, path, number)
        line = raw.strip()
        if not line or line.startswith(b"%"):
            continue
        try:
            keyword, _, rest = line.decode("utf-8").partition(" ")
        except UnicodeDecodeError:
            raise error(f"{line[:40]!r} is not UTF-8 text") from None
        keyword, kind = keyword.lower(), rest.strip().rpartition(" ")[2].lower()
        if keyword == "@attribute" and inside:
            if kind not in ("numeric", "real"):
                raise error(f"an attribute of a series is numeric, not {kind[:40]!r}")
            steps += 1
        elif keyword == "@attribute" and kind == "relational" and not relational:
            inside = relational = True
        elif keyword == "@attribute" and rest.rstrip().endswith("}") and "{" in rest and not classes:
            names = rest[rest.index("{") + 1 : rest.rindex("}")].split(",")
            classes = tuple(_unquote(name) for name in names)
            if len(set(classes)) != len(classes) or "" in classes:
                raise error("the class attribute has an empty or repeated name")
        elif keyword == "@end" and inside:
            inside = False
        elif keyword == "@data":
            if inside or not steps or not classes:
                raise error("@data before a whole relational attribute and a class attribute were declared")
            return steps, classes
        elif keyword != "@relation":
            raise error(f"{keyword[:40]!r} is not expected here in a multivariate .arff file")
    raise DatasetError(path, "the file ends before @data: the header is truncated", FETCH_AGAIN)


def _unquote(name: str) -> str:
    name = name.strip()
    return name[1:-1] if len(name) > 1 and name[0] == name[-1] and name[0] in "'\"" else name
