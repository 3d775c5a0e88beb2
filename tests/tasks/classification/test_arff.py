"""The relational `.arff` reader: the same panel as the `.ts` of the same set, and a DatasetError on bad files."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.classification.arff import read_arff
from tasks.classification.ts import read_ts
from tasks.errors import DatasetError

GOOD = r"""% comment
@relation 'Tiny'

@attribute relationalAtt relational
  @attribute att0 numeric
  @attribute att1 REAL
  @attribute att2 numeric
@end relationalAtt
@attribute activity {one, 'two b',onetwo}
@data
'1,2.5,-3e-1\n4,5,6',one
"7,8,?\n9,?,?",'two b'
"""


def write(path, content):
    path.write_text(content, encoding="utf-8")
    return path


def test_reads_values_labels_and_trailing_padding(tmp_path):
    panel = read_arff(write(tmp_path / "a.arff", GOOD))
    assert panel.classes == ("one", "two b", "onetwo")
    assert panel.labels.tolist() == [0, 1]
    # Step 3 of the second case is missing in both channels: no step. Step 2 of its channel 2 is filled in.
    assert panel.lengths.tolist() == [3, 2]
    assert panel.values.T.tolist() == [[1, 2.5, np.float32(-0.3), 7, 8], [4, 5, 6, 9, 9]]


def test_same_panel_as_the_ts_of_the_same_set(tmp_path, ts, arff):
    rng = np.random.default_rng(1)
    cases = [rng.normal(size=(steps, 5)) for steps in (7, 3, 9, 9)]
    labels, classes = ["b", "a", "a", "c"], ["a", "b", "c"]
    first = read_ts(write(tmp_path / "a.ts", ts(cases, labels, classes)))
    second = read_arff(write(tmp_path / "a.arff", arff(cases, labels, classes)))
    assert np.array_equal(first.values, second.values)
    assert np.array_equal(first.lengths, second.lengths)
    assert np.array_equal(first.labels, second.labels)
    assert first.classes == second.classes


BAD = {
    "undeclared label": (GOOD.replace(",one\n", ",three\n"), r"line 11.*'three' is not declared"),
    "short channel": (GOOD.replace("4,5,6", "4,5"), r"line 11.*a channel of 2 values where 3"),
    "channels": (GOOD.replace(r"\n9,?,?", ""), r"line 12.*1 channels where 2"),
    "nothing known": (GOOD.replace(r"7,8,?\n9,?,?", r"?,?,?\n?,?,?"), r"line 12.*every value"),
    "channel unknown": (GOOD.replace(r"\n9,?,?", r"\n?,?,?"), r"line 12.*channel 2 has no known value"),
    "inf": (GOOD.replace("2.5", "inf"), r"line 11.*'inf' is not a finite"),
    "too large": (GOOD.replace("2.5", "1e400"), r"line 11.*too large"),
    "cut line": (GOOD[: GOOD.index("4,5,6") + 3], r"line 11.*cut short"),
    "cut label": (GOOD.partition(",one\n")[0] + ",one", r"line 11.*may be cut short"),
    "not quoted": (GOOD.replace("'1,2.5", "1,2.5"), r"line 11.*not of the form"),
    "nominal series": (GOOD.replace("att1 REAL", "att1 {a,b}"), r"line 6.*numeric"),
    "flat arff": (GOOD.replace("@end relationalAtt\n", ""), r"line 8.*numeric"),
    "no class": (GOOD.replace("@attribute activity {one, 'two b',onetwo}\n", ""), r"line 9.*@data before"),
    "class twice": (GOOD.replace("onetwo}", "one}"), r"line 9.*empty or repeated"),
    "header cut": (GOOD.partition("@data")[0], r"ends before @data"),
    "no cases": (GOOD.partition("'1,2.5")[0], r"no case follows"),
    "not arff": ("hello\n", r"line 1.*'hello' is not expected"),
    "web page": ("<html></html>", r"HTML"),
    "empty": ("", r"empty"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_say_where_and_why(tmp_path, name):
    content, reason = BAD[name]
    path = write(tmp_path / "bad.arff", content)
    with pytest.raises(DatasetError, match=reason) as caught:
        read_arff(path)
    assert caught.value.path == str(path)
