"""Text layouts cut, flipped and edited: refused, or read as a slow reader written from the layout's description does.

A text file has no checksum, so a cut at a row's end or another digit is a value like any other to its reader; the
published sizes, which `import` checks, and the hash of a file in the data root are what tells those.
"""

from __future__ import annotations

import csv
import io
import re
from datetime import datetime
from itertools import groupby

import numpy as np
import pytest

from tasks.errors import DatasetError
from tasks.events import layouts

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
HOUR = 3600.0


def _number(cell):
    assert NUMBER.fullmatch(cell.strip(" \t")), cell
    return float(cell)


def _rows(content):
    return [row for row in csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=None)) if row]


def _stamp(cell):
    assert re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}", cell.strip())
    return datetime.strptime(cell.strip(), "%Y-%m-%d %H:%M:%S")


def _by_key(pairs):
    """[(times, marks)] of a sorted list of ((key, time), mark)."""
    grouped = (list(rows) for _, rows in groupby(pairs, key=lambda pair: pair[0][0]))
    return [([time for (_, time), _ in rows], [mark for _, mark in rows]) for rows in grouped]


def _jodie(content):
    _, *rows = [row for row in re.split("\r\n|\n|\r", content.decode("utf-8-sig")) if row.strip(" ")]
    cells = [[_number(cell) for cell in row.split(",")[:3]] for row in rows]
    return _by_key(sorted((((user, time), item) for user, item, time in cells), key=lambda pair: pair[0]))


def _foil(content):
    header, *rows = _rows(content)
    base, when, zone = (header.index(name) for name in ("Dispatching_base_num", "Pickup_date", "locationID"))
    origin = datetime(2015, 1, 1)
    found = {(f"{row[base].strip()}|{row[zone].strip()}", _stamp(row[when]) - origin) for row in rows}
    pairs = sorted(((key, span.total_seconds() / HOUR), 0) for key, span in found)
    return [(t[:5], m[:5]) for t, m in _by_key(pairs) if len(t) >= 2]


def _medallions(content):
    header, *rows = _rows(content)
    names = [name.strip().lower() for name in header]
    who, when = names.index("medallion"), names.index("pickup_datetime")
    found = {(row[who].strip(), _stamp(row[when])) for row in rows}
    start = min(stamp for _, stamp in found).replace(hour=0, minute=0, second=0)
    return _by_key(sorted(((key, (stamp - start).total_seconds() / HOUR), 0) for key, stamp in found))


def _zones(content):
    header, *rows = _rows(content)
    names = [name.strip().lower() for name in header]
    zone = names.index("pulocationid")
    when = next(i for i, name in enumerate(names) if name in ("tpep_pickup_datetime", "lpep_pickup_datetime"))
    found = {(row[zone].strip(), _stamp(row[when])) for row in rows}
    keyed = ((f"{key}|{s.date()}", (s - s.replace(hour=0, minute=0, second=0)).total_seconds()) for key, s in found)
    return _by_key(sorted(((key, seconds / HOUR), 0) for key, seconds in keyed))


def _csv(*lines):
    return ("\n".join(lines) + "\n").encode()


LAYOUTS = {
    "jodie": (
        _csv(
            "user_id,item_id,timestamp,state_label,comma_separated_list_of_features",
            *(
                "0,5,0.0,0,-0.3,-0.4",
                "1,2,3.5,0,-0.3,0.4",
                "0,6,9.25,1,0.1,-0.4",
                "1,5,9.0,0,0.1,0.2",
                "12,3,1e1,0,1,2",
            ),
        ),
        lambda path: layouts.read_jodie(path, by_item=False, n_marks=7, end=2000.0),
        _jodie,
        b"0123456789.,-+eE \t\r\n\"'_naifNA\0\xff;#",
    ),
    "foil": (
        _csv(
            "Dispatching_base_num,Pickup_date,Affiliated_base_num,locationID",
            *(f"B2,2015-01-{day:02d} 0{day}:30:0{day},B1,7" for day in (3, 1, 2, 1, 9, 8, 7)),
            *(f"B1,2015-02-0{day} 00:00:00,B1,12" for day in (1, 2)),
        ),
        lambda path: layouts.read_foil(path, shortest=2, longest=5),
        _foil,
        b"0123456789B-: ,\t\r\n\"'TZ\0\xff/.",
    ),
    "medallions": (
        _csv(
            "medallion, pickup_datetime, fare",
            *(
                "A,2013-01-02 01:00:00,3",
                "A,2013-01-01 12:00:00,2",
                "B,2013-01-01 00:30:09,1",
                "A,2013-01-02 01:00:00,4",
            ),
        ),
        layouts.read_tlc,
        _medallions,
        b"0123456789AB-: ,\t\r\n\"'TZ\0\xff/.",
    ),
    "zones": (
        _csv(
            "tpep_pickup_datetime,PULocationID,fare",
            *(
                "2016-01-01 06:00:00,3,1",
                "2016-01-02 07:10:00,3,2",
                "2016-01-01 08:00:59,3,3",
                "2016-01-01 05:00:00,13,4",
            ),
        ),
        layouts.read_tlc,
        _zones,
        b"0123456789-: ,\t\r\n\"'TZ\0\xff/.",
    ),
}


COUNTS = {  # with the RMTPP text more than 10^3 in all; the two layouts of taxi csv have one reader
    "jodie": {"edits": 300},
    "foil": {"edits": 150},
    "medallions": {"cuts": 50, "flips": 150, "edits": 50},
    "zones": {"cuts": 50, "flips": 150, "edits": 50},
}


def _lists(sequences):
    ends = zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)
    return [(sequences.times[a:b], sequences.marks[a:b]) for a, b in ends]


def _assert_same(found, expected, name, content):
    assert len(found) == len(expected), (name, content)
    for (times, marks), (wanted_times, wanted_marks) in zip(found, expected, strict=True):
        assert marks.tolist() == wanted_marks, (name, content)
        assert len(times) == len(wanted_times), (name, content)
        assert np.allclose(times, wanted_times, rtol=1e-14, atol=0), (name, content)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_csv_is_refused_or_read_as_the_oracle_reads_it(tmp_path, damaged, foreign, layout):
    whole, read, oracle, alphabet = LAYOUTS[layout]
    path = tmp_path / "events.csv"
    accepted = refused = 0
    for name, content in damaged(whole, alphabet=alphabet, **COUNTS[layout]):
        path.write_bytes(content)
        try:
            found = _lists(read(path))
        except DatasetError:
            refused += 1
            continue
        accepted += 1
        _assert_same(found, oracle(content), name, content)
    assert accepted > 30  # both kinds were tried
    assert refused > 30
    for content in foreign(whole).values():
        path.write_bytes(content)
        with pytest.raises(DatasetError):
            read(path)
    for content in (b"\xef\xbb\xbf" + whole, whole.replace(b"\n", b"\r\n"), whole[:-1]):
        path.write_bytes(content)
        _assert_same(_lists(read(path)), oracle(whole), "mark or line ends", content)
    with pytest.raises(DatasetError, match="cannot be read"):
        read(tmp_path / "gone.csv")


TIMES, MARKS = b"10.5 20 35.25\n11 1e2\n12.5 13 14\n", b"1 22 3\n4 5\n7 7 7\n"


def _number_lines(content):
    text = content.decode("utf-8-sig")
    lines = (text[:-1] if text.endswith("\n") else text).split("\n")
    return [[_number(cell) for cell in line.removesuffix("\r").replace("\t", " ").split(" ") if cell] for line in lines]


def test_rmtpp_text_is_refused_or_read_as_the_oracle_reads_it(tmp_path, damaged, foreign):
    files = {f"{kind}-1-{part}.txt": c for kind, c in (("time", TIMES), ("event", MARKS)) for part in ("train", "test")}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)

    def read():
        return layouts.read_rmtpp(tmp_path, 1, n_marks=22, unit="seconds", start=10.0, end=1000.0)

    def same(altered, content):
        now = files | {altered: content}
        times = [row for part in ("train", "test") for row in _number_lines(now[f"time-1-{part}.txt"])]
        marks = [row for part in ("train", "test") for row in _number_lines(now[f"event-1-{part}.txt"])]
        expected = [([t - 10 for t in ts], [m - 1 for m in ms]) for ts, ms in zip(times, marks, strict=True)]
        _assert_same(_lists(read()), expected, altered, content)

    accepted = 0
    for seed, altered in enumerate(("time-1-train.txt", "event-1-test.txt")):
        path = tmp_path / altered
        for _, content in damaged(
            files[altered],
            alphabet=b"0123456789.-+eE \t\r\n_naif\0\xff\x1c\xc2\x85,",
            edits=300,
            flips=150,
            cuts=50,
            seed=seed,
        ):
            path.write_bytes(content)
            try:
                read()
            except DatasetError:
                continue
            accepted += 1
            same(altered, content)
        for content in foreign(files[altered]).values():
            path.write_bytes(content)
            with pytest.raises(DatasetError):
                read()
        for content in (b"\xef\xbb\xbf" + files[altered], files[altered].replace(b"\n", b"\r\n"), files[altered][:-1]):
            path.write_bytes(content)
            same(altered, content)
        path.write_bytes(files[altered])
    assert accepted > 30
    (tmp_path / "time-1-test.txt").unlink()
    with pytest.raises(DatasetError, match=r"time-1-test\.txt"):
        read()
