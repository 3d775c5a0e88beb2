"""The readers that are fuzzed, behind the hash check that would refuse every damaged file: small files and judges.

Text readers are held against slow ones (`fuzz_series`, `fuzz_events`); files with checksums of their own must read
back true or not at all (`fuzz_signed`); see `fuzz_judges` for those that have none (`fuzz_unsigned`).
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import shutil
import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fuzz_events as events
import fuzz_series as slow
import fuzz_signed
import fuzz_unsigned
from fuzz_mutate import Reader, Seed, through

from tasks.classification.arff import read_arff
from tasks.classification.ts import read_ts
from tasks.errors import DatasetError
from tasks.events import importers
from tasks.forecasting.series import read_series
from tasks.locate import Resolved
from tasks.suite.manifest import FileEntry, VariantEntry
from tasks.unpack import unpack
from tasks.verify import verified

TS = b"""#comment
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
EQUAL = (
    TS.replace(b"@equalLength false", b"@equalLength true\n@seriesLength 2")
    .replace(b"1.5,2,-3e-1:4,5.25,6", b"1.5,2:4,5.25")
    .replace(b"0,1,2,3:3,2,1,0", b"0,1:3,2")
)
TS_BYTES = b"0123456789.,:-+eE?nNaAiI_@#tfu \t\r\n\0\x1c\x85\xc2\xff"
ARFF = rb"""% comment
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
ARFF_BYTES = b"0123456789.,-+eE?nNaA'\"\\{}%@ \t\r\n\0\x1c\x85\xff"
CSV = b"""date,HUFL,OT
2016-07-01 00:00:00,5.827000141143799,30.5310001373291
2016-07-01 01:00:00,-5.693,27.78700065612793
2016-07-01 02:00:00,1e-3,0.5
2016-07-01 03:00:00,5,27
"""
SLASHES = b"""OT,date
30.5,2016/7/1 0:00
27.75,2016/7/1 1:00
-1.25,2016/7/2 2:30
"""
CSV_BYTES = b"0123456789.,-+eE:/ \t\r\n\"';nNaAif\0\xff\xef\xbb\xbf"


def readers(folder: Path, names: Iterable[str]) -> dict[str, Reader]:
    """The readers of these names; the files they are given are written below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    makers = {"ts": _ts, "arff": _arff, "csv": _csv, "events": _events, "archives": _archives, "hashed": _hashed}
    makers |= fuzz_signed.MAKERS | fuzz_unsigned.MAKERS
    return {name: makers[name](folder) for name in names}


def _ts(folder: Path) -> Reader:
    def judge(content: bytes, panel: Any) -> bool:
        return slow.panel_agrees(panel, slow.ts(content))

    read = through(folder / "m.ts", read_ts)
    files = {"plain": TS, "missing": TS.replace(b"@missing false", b"@missing true"), "equal": EQUAL}
    return Reader("ts", tuple(Seed(n, c, read, judge, TS_BYTES) for n, c in files.items()), (DatasetError,))


def _arff(folder: Path) -> Reader:
    def judge(content: bytes, panel: Any) -> bool:
        return slow.panel_agrees(panel, slow.arff(content))

    return Reader(
        "arff", (Seed("relational", ARFF, through(folder / "m.arff", read_arff), judge, ARFF_BYTES),), (DatasetError,)
    )


def _csv(folder: Path) -> Reader:
    def judge(content: bytes, series: Any) -> bool:
        return slow.series_agrees(series, slow.csv(content))

    read = through(folder / "m.csv", lambda path: read_series(path, "NAME"))
    files = {"dashes": CSV, "slashes": SLASHES}
    return Reader("csv", tuple(Seed(n, c, read, judge, CSV_BYTES) for n, c in files.items()), (DatasetError,))


def _events(folder: Path) -> Reader:
    """RMTPP text, the csv layouts, Neural Hawkes pickles."""
    seeds = []
    for name, layout in events.LAYOUTS.items():

        def judge(content: bytes, found: Any, layout: events.Layout = layout) -> bool:
            return events.agrees(found, lambda: layout.slow(content))

        seeds.append(Seed(name, layout.whole, through(folder / f"{name}.csv", layout.read), judge, layout.alphabet))
    for altered in ("time-1-train.txt", "event-1-test.txt"):
        seeds.append(_rmtpp(folder / f"rmtpp-{altered[:4]}", altered))
    return Reader("events", (*seeds, *(_hawkes(folder / f"hawkes{p}", p) for p in (2, 4))), (DatasetError,))


def _rmtpp(folder: Path, altered: str) -> Seed:
    folder.mkdir(exist_ok=True)
    for name, content in events.RMTPP.items():
        (folder / name).write_bytes(content)

    def judge(content: bytes, found: Any) -> bool:
        return events.agrees(found, lambda: events.slow_rmtpp(events.RMTPP | {altered: content}))

    read = through(folder / altered, lambda path: events.read_rmtpp(path.parent))
    return Seed(f"rmtpp {altered[:4]}", events.RMTPP[altered], read, judge, events.RMTPP_BYTES)


def _hawkes(folder: Path, protocol: int) -> Seed:
    folder.mkdir(exist_ok=True)
    (folder / "dev.pkl").write_bytes(events.hawkes_pickle("dev", [], protocol))
    (folder / "test.pkl").write_bytes(events.hawkes_pickle("test", [[(1.0, 2)]], protocol))
    whole = events.hawkes_pickle("train", [[(0.5, 1), (2.25, 3)], [(0.0, 0), (0.5, 0), (7.0, 2)]], protocol)

    def judge(content: bytes, found: Any) -> bool:
        return events.agrees(found, lambda: [*events.slow_hawkes(content), ([1.0], [2])])

    read = through(folder / "train.pkl", lambda path: importers.read_neural_hawkes(path.parent, 4, "years"))
    return Seed(f"neural hawkes, pickle protocol {protocol}", whole, read, judge)


def _archives(folder: Path) -> Reader:
    """A zip of two files, unpacked: both as they should be, or nothing is written."""
    files = {f"Toy/Toy_{part}.ts": TS.replace(b"Tiny", part.encode()) for part in ("TRAIN", "TEST")}
    layout = [
        FileEntry(path[8:-3].lower(), "ts", path, len(content), hashlib.sha256(content).hexdigest())
        for path, content in files.items()
    ]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(path), content, zipfile.ZIP_DEFLATED)
    root = folder / "root"

    def read(path: Path) -> dict[str, bytes]:
        shutil.rmtree(root, ignore_errors=True)
        unpack(path, layout, root)
        return _below(root)

    def judge(_: bytes, found: dict[str, bytes] | None) -> bool:
        return found == files or (found is None and not _below(root))

    return Reader(
        "archives", (Seed("zip", stream.getvalue(), through(folder / "toy.zip", read), judge),), (DatasetError,)
    )


def _below(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _hashed(folder: Path) -> Reader:
    """Each kind of file as jobs meet it, behind its hash: nothing but the true bytes gets to a parser."""
    clock = itertools.count(1)
    seeds = []
    others = [
        _ts(folder),
        _arff(folder),
        _csv(folder),
        *(fuzz_unsigned.MAKERS[name](folder) for name in ("parquet", "hdf5")),
    ]
    for reader in others:
        whole, path = reader.seeds[0].content, folder / f"hashed.{reader.name}"
        row = FileEntry("data", reader.name, path.name, len(whole), hashlib.sha256(whole).hexdigest())
        entry = VariantEntry("official", "none stated", {}, (row,))
        source = Resolved("fuzz", "any", "official", {"data": path}, {"data": row.sha256 or ""}, "data root", entry)

        def read(path: Path, source: Resolved = source, row: FileEntry = row) -> bytes:
            os.utime(path, ns=(0, next(clock)))  # the memory of hashes goes by time stamps, which have a coarse clock
            verified(replace(source, entries={"data": row}))
            return path.read_bytes()

        def judge(content: bytes, found: bytes | None, whole: bytes = whole) -> bool:
            return (found is not None) == (content == whole)

        seeds.append(Seed(reader.name, whole, through(path, read), judge, reader.seeds[0].alphabet))
    return Reader("hashed", tuple(seeds), (DatasetError,))
