"""Readers of event files. Our own parquet and npz here; the layouts of other projects in `layouts.py`.

Every reader gives `EventSequences`, checked, or raises DatasetError with file, row and remedy.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import DatasetError
from tasks.events.sequences import NUMBERS, SECONDS, SPLITS, EventSequences, refuse_coarse_floats, validate
from tasks.npz import read_arrays
from tasks.parquet import ParquetError, read_table

# What numpy, zipfile and the parser of npy headers raise for damaged bytes.
DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    RuntimeError,
    SyntaxError,
    MemoryError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
COLUMNS = ("sequence", "time", "mark", "split")
FETCH_AGAIN = "fetch or convert the file again"


def read_parquet(path: Path) -> EventSequences:
    """One long table: sequence int32, time float64, mark int32, split string; unit, window ... in the metadata."""
    try:
        table = read_table(path)
    except ParquetError as error:
        raise DatasetError(path, f"is no readable parquet file ({_short(error)})", FETCH_AGAIN) from error
    names = table.column_names
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        reason = f"has no column {', '.join(missing)}; it has {', '.join(names)}"
        raise DatasetError(path, reason, "use the columns sequence, time, mark, split")
    twice = [name for name in COLUMNS if names.count(name) > 1]
    if twice:
        raise DatasetError(path, f"has the column {twice[0]} more than once", "keep one column of each name")
    if any(table[name].null_count for name in COLUMNS):
        raise DatasetError(path, "has empty cells", "fill or remove the rows without time, mark or split")
    try:
        facts = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        columns = {name: table[name].to_numpy() for name in COLUMNS}
        number, time, mark = (columns[name] for name in COLUMNS[:3])
        n_marks, unit = int(facts["n_marks"]), facts["unit"]
        window = float(facts.get("window_start", "nan")), float(facts.get("window_end", "nan"))
        capped = np.array(json.loads(facts.get("capped_sequences", "[]")), dtype=np.int64)
    except (KeyError, ValueError, TypeError) as error:
        raise DatasetError(path, f"metadata or columns cannot be used ({_short(error)})", FETCH_AGAIN) from error
    if unit not in SECONDS:
        raise DatasetError(path, f"unknown unit {unit!r}", f"use one of {', '.join(SECONDS)}")
    for name, kinds in (("sequence", "iu"), ("time", NUMBERS), ("mark", NUMBERS), ("split", "O")):
        if columns[name].dtype.kind not in kinds or (name == "split" and not _holds_text(table[name].type)):
            wanted = "text" if name == "split" else "numbers"
            raise DatasetError(path, f"column {name} holds {table[name].type}", f"store {wanted} in it")
    refuse_coarse_floats(time, path, "column time")
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    if not np.array_equal(number[starts], np.arange(len(starts))):
        raise DatasetError(path, "sequences are not numbered 0, 1, 2, ... in contiguous rows", "sort by sequence, time")
    label, found = columns["split"][starts], np.unique(columns["split"])
    if len(unknown := set(found.tolist()) - {*SPLITS, "all"}):
        raise DatasetError(path, f"unknown split {sorted(unknown)[0]!r}", "use train, val, test, or all")
    if (np.repeat(label, np.diff(np.append(starts, len(number)))) != columns["split"]).any():
        raise DatasetError(path, "a sequence lies in two splits", "give every row of a sequence the same split")
    codes = {name: code for code, name in enumerate(SPLITS)} | {"all": -1}
    if capped.ndim != 1 or not ((capped >= 0) & (capped < len(starts))).all():
        raise DatasetError(path, "metadata capped_sequences names sequences that are not there", FETCH_AGAIN)
    window_end = np.full(len(starts), window[1])
    window_end[capped] = np.nan
    sequences = EventSequences(
        times=time.astype(np.float64),
        marks=mark,
        offsets=np.append(starts, len(number)).astype(np.int64),
        window_start=np.full(len(starts), window[0]),
        window_end=window_end,
        split=np.array([codes[name] for name in label.tolist()], np.int8),
        n_marks=n_marks,
        unit=unit,
    )
    return validate(sequences, path)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """What `write_npz` (the `import` command) wrote: the arrays of EventSequences, and `folds` [F, S], if any."""
    try:
        arrays = read_arrays(path)
        sequences = EventSequences.from_arrays(arrays)
        for name in ("times", "marks", "offsets", "window_start", "window_end", "split"):
            if arrays[name].ndim != 1 or arrays[name].dtype.kind not in ("iu" if name == "offsets" else NUMBERS):
                raise ValueError(f"{name} is no list of numbers")
        refuse_coarse_floats(sequences.times, path, "times")
        ordered = sequences.offsets[0] == 0 and (np.diff(sequences.offsets) >= 0).all()
        if not (ordered and sequences.offsets[-1] == len(sequences.times) == len(sequences.marks)):
            raise ValueError("offsets do not fit the events")
        sizes = {len(a) for a in (sequences.window_start, sequences.window_end, sequences.split)}
        if sizes != {sequences.n_sequences}:
            raise ValueError("windows or splits do not fit the sequences")
        folds = arrays.get("folds", np.zeros((1, sequences.n_sequences), np.int8))
        known = folds.dtype == np.int8 and np.isin(folds, range(len(SPLITS))).all()
        if not (known and folds.ndim == 2 and folds.shape[1] == sequences.n_sequences and len(folds)):
            raise ValueError("folds do not fit the sequences")
    except DAMAGE as error:
        fix = "make it with: python scripts/data.py import"
        raise DatasetError(path, f"is no event file of ours ({_short(error)})", fix) from error
    checked = validate(sequences, path).to_arrays()
    return checked | ({"folds": arrays["folds"]} if "folds" in arrays else {})


def check_facts(sequences: EventSequences, shape: Mapping[str, int], facts: Mapping[str, Any], path: Path) -> None:
    """Compare with the published sizes and statistics of the manifest; DatasetError names the first that differs."""
    lengths = sequences.lengths
    counts = {name: int((sequences.split == code).sum()) for code, name in enumerate(SPLITS)}
    found: dict[str, float] = {
        "sequences": sequences.n_sequences,
        "events": len(sequences.times),
        "length_min": int(lengths.min()),
        "length_max": int(lengths.max()),
        "time_mean": float(sequences.times.mean()),
        "mark_mean": float(sequences.marks.mean()),
        **{f"splits.{name}": count for name, count in counts.items()},
    }
    published = {name: size for name, size in facts.get("splits", {}).items() if name != "all"}
    expected = {**shape, **{k: v for k, v in facts.items() if k in found}}
    expected |= {f"splits.{name}": size for name, size in published.items()}
    for name, value in expected.items():
        if name in found and not np.isclose(found[name], value, rtol=1e-7, atol=1e-6):
            fix = "use the published file, or name yours by another variant"
            raise DatasetError(path, f"{name} is {found[name]:.10g}, published {value:.10g}", fix)


def _holds_text(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else 'no detail'}"
