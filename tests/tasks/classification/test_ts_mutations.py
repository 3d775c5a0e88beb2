"""Random mutations of a small `.ts` file: refused, or read exactly as a slow oracle reads them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tasks.classification.ts import read_ts
from tasks.errors import DatasetError

GOOD = """#comment
@problemName Tiny
@timeStamps false
@missing false
@univariate false
@dimensions 2
@equalLength false
@classLabel true 1 10 up
@data
1.5,2,-3e-1:4,5.25,6:1
7,8:+9.,.125:10
0,1,2,3:3,2,1,0:up
"""

NUMBER = re.compile(r"[ \t]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t]*")
KEYS = [
    "problemname",
    "timestamps",
    "missing",
    "univariate",
    "dimensions",
    "dimension",
    "equallength",
    "serieslength",
    "classlabel",
]


def oracle(content: bytes) -> tuple[list, list, list] | None:
    """A slow reader written from the format's description: (cases, labels, classes), or None for a bad file."""
    try:
        lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        at = next(i for i, line in enumerate(lines) if line.strip().lower() == b"@data")
        found: dict[str, str] = {}
        for line in (line.strip() for line in lines[:at]):
            if not line or line[:1] == b"#":
                continue
            key, _, value = line.decode().partition(" ")
            assert key[0] == "@"
            assert key[1:].lower() in KEYS
            key = "dimensions" if key.lower() == "@dimension" else key[1:].lower()
            assert key not in found
            found[key] = value.strip()
        flags = {}
        for key in ("timestamps", "missing", "univariate", "equallength"):
            flags[key] = {"true": True, "false": False}[found.get(key, "false").lower()]
        assert not flags["timestamps"]
        if "dimensions" in found:
            assert re.fullmatch("[0-9]{1,9}", found["dimensions"])
            assert int(found["dimensions"]) > 0
        channels = int(found["dimensions"]) if "dimensions" in found else None
        if flags["univariate"]:
            assert channels in (None, 1)
            channels = 1
        yes, *classes = found["classlabel"].split()
        assert yes.lower() == "true"
        assert classes
        assert len(set(classes)) == len(classes)
        cases, labels = [], []
        for i, line in enumerate(lines[at + 1 :], at + 1):
            text = line.strip(b" \t\r").decode()
            if not text:
                continue
            *parts, label = text.split(":")
            label = label.encode().strip().decode()
            assert label in classes
            last = i == len(lines) - 1
            assert not (last and any(c != label and c.startswith(label) for c in classes))
            rows = []
            for part in parts:
                row = []
                for token in part.split(","):
                    bare = token.strip(" \t")
                    if flags["missing"] and (bare == "?" or bare.lower() == "nan"):
                        row.append(None)
                        continue
                    assert NUMBER.fullmatch(token)
                    with np.errstate(over="ignore"):
                        row.append(float(np.float32(float(token))))
                    assert np.isfinite(row[-1])
                assert any(value is not None for value in row)
                rows.append(row)
            channels = len(rows) if channels is None else channels
            assert len(rows) == channels
            assert len({len(row) for row in rows}) == 1
            cases.append(rows)
            labels.append(classes.index(label))
            assert not flags["equallength"] or len(rows[0]) == len(cases[0][0])
        assert cases
    except (AssertionError, StopIteration, KeyError, UnicodeDecodeError, ValueError, IndexError):
        return None
    return cases, labels, classes


@pytest.mark.parametrize("start", range(4))
def test_mutations_are_refused_or_read_as_the_oracle_reads_them(tmp_path, start):
    """10^3 random mutations in all; sktime's reader accepts 12 % of such files with other content."""
    rng = np.random.default_rng([20, start])
    base = (GOOD if start % 2 else GOOD.replace("@missing false", "@missing true")).encode()
    alphabet = b"0123456789.,:-+eE?nNaAiI_@#tfu \t\r\n\0\x1c\x85\xc2\xff"
    accepted = 0
    for _ in range(250):
        content = bytearray(base)
        for _ in range(rng.integers(1, 4)):
            place = int(rng.integers(len(content)))
            byte = alphabet[rng.integers(len(alphabet))]
            match int(rng.integers(4)):
                case 0:
                    content[place] = byte
                case 1:
                    content.insert(place, byte)
                case 2:
                    del content[place]
                case _:
                    content[place] = int(rng.integers(256))
        path, expected = tmp_path / "m.ts", oracle(bytes(content))
        path.write_bytes(content)
        try:
            panel = read_ts(path)
        except DatasetError:
            assert expected is None, bytes(content)
            continue
        assert expected is not None, bytes(content)
        accepted += 1
        cases, labels, classes = expected
        assert (panel.labels.tolist(), list(panel.classes)) == (labels, classes), bytes(content)
        flat = [step for rows in cases for step in zip(*rows, strict=True)]
        known = np.array([[value is not None for value in step] for step in flat])
        exact = np.array([[0.0 if value is None else value for value in step] for step in flat])
        assert panel.lengths.tolist() == [len(rows[0]) for rows in cases], bytes(content)
        assert np.array_equal(panel.values[known], exact[known]), bytes(content)
        assert np.isfinite(panel.values).all()
    assert 10 < accepted < 240  # mutations that matter and mutations that do not were both tried
