"""The `.ts` reader: equal to sktime's on good files, and a DatasetError with a line number on every bad one."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import numpy as np
import pytest

from tasks.classification.ts import read_ts
from tasks.errors import DatasetError

HEADER = """#comment
@problemName Tiny
@timeStamps false
@missing false
@univariate false
@dimensions 2
@equalLength false
@classLabel true 1 10 up
@data
"""
BODY = "1.5,2,-3e-1:4,5.25,6:1\n7,8:+9.,.125:10\n0,1,2,3:3,2,1,0:up\n"
GOOD = HEADER + BODY


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def same(first, second) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first[:3], second[:3], strict=True)) and first[3] == second[3]


def test_reads_values_lengths_and_labels(tmp_path):
    panel = read_ts(write(tmp_path / "a.ts", GOOD))
    assert panel.classes == ("1", "10", "up")
    assert panel.lengths.tolist() == [3, 2, 4]
    assert panel.labels.tolist() == [0, 1, 2]
    assert panel.values.dtype == np.float32
    assert panel.values[:5].tolist() == [[1.5, 4.0], [2.0, 5.25], [np.float32(-0.3), 6.0], [7.0, 9.0], [8.0, 0.125]]


@pytest.mark.parametrize(
    "content",
    [
        GOOD.replace("\n", "\r\n"),
        b"\xef\xbb\xbf" + GOOD.encode(),
        lzma.compress(GOOD.encode()),
        GOOD.removesuffix("\n"),
        GOOD.replace("@missing", "@MISSING").replace("@dimensions", "@dimension"),
        GOOD.replace("#comment", "#caf\u00e9\n\n#").encode("latin-1"),
        GOOD.replace("@data\n", "@data\n\n"),
        GOOD.replace("1.5,2,", " 1.5 ,\t2,"),
    ],
    ids=["crlf", "bom", "xz", "no-last-newline", "spelling", "latin-1-comment", "blank-line", "spaces"],
)
def test_harmless_differences_change_nothing(tmp_path, content):
    expected = read_ts(write(tmp_path / "good.ts", GOOD))
    assert same(read_ts(write(tmp_path / "other.ts", content)), expected)


BAD = {
    "undeclared label": (GOOD.replace(":up\n", ":down\n"), "line 12.*'down' is not declared"),
    "NaN": (GOOD.replace("5.25", "NaN"), "line 10.*missing"),
    "inf": (GOOD.replace("5.25", "inf"), "line 10.*'inf' is not a finite"),
    "?": (GOOD.replace("5.25", "?"), "line 10.*missing"),
    "1e400": (GOOD.replace("5.25", "1e400"), "line 10.*too large"),
    "1e39": (GOOD.replace("5.25", "1e39"), "line 10.*too large"),
    "underscore": (GOOD.replace("5.25", "5_2"), "line 10.*'5_2'"),
    "other digits": (GOOD.replace("5.25", "\u0665"), "line 10"),
    "two numbers": (GOOD.replace("5.25", "5 25"), "line 10.*'5 25'"),
    "empty value": (GOOD.replace("5.25", ""), "line 10.*empty value"),
    "web page": ("<!DOCTYPE html><html>404</html>", "HTML"),
    "text": ("Not Found\n" + GOOD, "line 1.*neither a field"),
    "gzip": (gzip.compress(GOOD.encode()), "gzip"),
    "empty": ("", "empty"),
    "blank": ("\n", "ends before @data"),
    "header only": (HEADER, "no case follows @data"),
    "truncated header": (HEADER.partition("@univariate")[0], "ends before @data"),
    "channels": (GOOD.replace("7,8:+9.,.125:10", "7,8:10"), "line 11.*1 channels where 2"),
    "ragged channels": (GOOD.replace("7,8:", "7:"), "line 11.*differ in length"),
    "cut label": (GOOD.replace("0,1,2,3:3,2,1,0:up\n", "0:1:1"), "line 12.*may be cut short"),
    "cut line": (GOOD.removesuffix(":3,2,1,0:up\n"), "line 12.*class label"),
    "comment in data": (GOOD.replace("7,8", "#,8"), "line 11"),
    "not equal length": (GOOD.replace("@equalLength false", "@equalLength true"), "line 11.*2 steps where every one"),
    "series length": (
        GOOD.replace("@equalLength false", "@equalLength true\n@seriesLength 4"),
        "line 11.*3 steps where every one has 4",
    ),
    "no labels": (GOOD.replace("@classLabel true 1 10 up\n", ""), "lacks @classLabel"),
    "label twice": (GOOD.replace("1 10 up", "1 10 10 up"), "names a class twice"),
    "label false": (GOOD.replace("true 1 10 up", "false"), "@classLabel must be"),
    "time stamps": (GOOD.replace("@timeStamps false", "@timeStamps true"), "time stamps"),
    "bad flag": (GOOD.replace("@missing false", "@missing maybe"), "'maybe', not true or false"),
    "bad count": (GOOD.replace("@dimensions 2", "@dimensions two"), "'two', not a whole number"),
    "zero": (GOOD.replace("@dimensions 2", "@dimensions 0"), "'0', not a whole number"),
    "field twice": (GOOD.replace("@missing false", "@missing false\n@missing true"), "stands twice"),
    "unknown field": (GOOD.replace("@missing", "@mising"), "unknown header field @mising"),
    "regression": (GOOD.replace("@classLabel true 1 10 up", "@targetLabel true"), "regression"),
    "univariate": (GOOD.replace("@univariate false", "@univariate true"), "@univariate is true"),
    "data value": (GOOD.replace("@data", "@data 1"), "takes no value"),
    "not text": (GOOD.encode().replace(b":up", b":\xff"), "not UTF-8"),
    "xz cut": (lzma.compress(GOOD.encode())[:-20], "whole xz"),
    "xz damaged": (lzma.compress(GOOD.encode() * 20)[:60] + b"\0" * 40, "whole xz"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_say_where_and_why(tmp_path, name):
    content, reason = BAD[name]
    path = write(tmp_path / "bad.ts", content)
    with pytest.raises(DatasetError, match=reason) as caught:
        read_ts(path)
    assert caught.value.path == str(path)
    assert caught.value.fix


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.ts", tmp_path):
        with pytest.raises(DatasetError, match="cannot be read"):
            read_ts(path)


def test_declared_missing_values_are_interpolated_per_channel(tmp_path):
    text = HEADER.replace("@missing false", "@missing true") + "?,2,NaN,?,8,?:4,?,6,6,6,5:1\n"
    panel = read_ts(write(tmp_path / "a.ts", text))
    assert panel.values.T.tolist() == [[2, 2, 4, 6, 8, 8], [4, 5, 6, 6, 6, 5]]
    with pytest.raises(DatasetError, match=r"line 10.*channel 2 has no known value"):
        read_ts(write(tmp_path / "b.ts", text.replace("4,?,6,6,6,5", "?,?,?,?,?,?")))
    for token in ("-nan", "inf", "nNa", "1N", "?1"):
        with pytest.raises(DatasetError, match=r"line 10.*finite"):
            read_ts(write(tmp_path / "c.ts", text.replace("8,?", f"8,{token}")))


def test_every_truncation_is_refused_or_loses_whole_cases_only(tmp_path):
    whole = read_ts(write(tmp_path / "good.ts", GOOD))
    for end in range(len(GOOD)):
        path = write(tmp_path / "cut.ts", GOOD[:end])
        try:
            panel = read_ts(path)
        except DatasetError:
            continue
        # What is left must be a prefix of the cases; the manifest's case count refuses it later.
        n = len(panel.labels)
        assert panel.lengths.tolist() == whole.lengths[:n].tolist(), GOOD[:end]
        assert np.array_equal(panel.values, whole.values[: len(panel.values)])
        assert panel.labels.tolist() == whole.labels[:n].tolist()
