"""Binary formats without checksums of their own: parquet and HDF5 (and what they carry where one asks for them)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fuzz_judges import headers_only, same, unsigned
from fuzz_mutate import Reader, Seed, through

from tasks.errors import DatasetError
from tasks.events.readers import read_parquet
from tasks.forecasting.series import read_series
from tasks.rl.d4rl import read_episodes
from tasks.rl.robots import Robot

TINY = Robot("hopper", "Hopper-v4", 4, 3, 2, 2, 0.0, 1.0, max_steps=6)  # dimension 3 is zero, like Ant's forces


def _parquet(folder: Path) -> Reader:
    dates = np.datetime64("2016-07-01", "ms") + np.arange(6).astype("timedelta64[h]")
    values = {"HUFL": np.arange(6) * 1.25 - 2, "OT": np.array([0.5, -7.125, 3.0, 2.0, 9.75, 1e-3])}
    table = pa.table({"date": pa.array(dates), **values})
    stamps = dates.astype(np.int64)

    def view(series: Any) -> list:
        return [series.values, series.dates, series.columns]

    def build(said: Mapping[str, np.ndarray]) -> list | None:
        with np.errstate(over="ignore"):
            columns = np.stack([said["HUFL"], said["OT"]], 1).astype(np.float32)
        if not np.isfinite(columns).all() or (np.diff(said["date"]) < 0).any():
            return None
        return [columns, said["date"], np.array(["HUFL", "OT"])]

    read = through(folder / "m.parquet", lambda path: read_series(path, "NAME"))
    true = build({"date": stamps, **values})
    whole = _written(table, compression="none", use_dictionary=False, write_statistics=False)
    seeds = [Seed("series, plain", whole, read, unsigned(whole, {"date": stamps, **values}, true, view, build))]
    for name, options in (
        ("series, as published", {}),
        ("series, with page checksums", {"write_page_checksum": True, "use_dictionary": False}),
    ):
        content = _written(table, **options)
        seeds.append(Seed(name, content, read, headers_only(true, view)))
    seeds.append(_event_parquet(folder))
    return Reader("parquet", tuple(seeds), (DatasetError,))


def _written(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def _event_parquet(folder: Path) -> Seed:
    sequence, mark = np.array([0, 0, 0, 1, 1], np.int32), np.array([0, 3, 1, 2, 2], np.int32)
    time = np.array([1.0, 2.0, 5.0, 0.5, 7.25])
    table = pa.table({"sequence": sequence, "time": time, "mark": mark, "split": ["train"] * 3 + ["test"] * 2})
    table = table.replace_schema_metadata({"n_marks": "4", "unit": "hours", "window_end": "100"})
    whole = _written(table, compression="none", use_dictionary=False, write_statistics=False)

    def view(found: Any) -> list:
        return [found.times, found.marks, found.offsets, found.split, found.window_end]

    def build(said: Mapping[str, np.ndarray]) -> list | None:
        t, m = said["time"], said["mark"]
        inside = np.isfinite(t).all() and (t <= 100).all()  # the window's start is not stated
        if said["sequence"].tolist() != sequence.tolist() or not inside or not ((m >= 0) & (m < 4)).all():
            return None
        if (np.diff(t[:3]) < 0).any() or t[4] < t[3]:
            return None
        return [t, m.astype(np.int64), np.array([0, 3, 5]), np.array([0, 2], np.int8), np.full(2, 100.0)]

    values = {"sequence": sequence, "time": time, "mark": mark}
    read = through(folder / "events.parquet", read_parquet)
    true = view(read(whole))
    return Seed("events, plain", whole, read, unsigned(whole, values, true, view, build))


def _trajectories(libver: str, **options: Any) -> tuple[bytes, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    rows = 10
    arrays = {
        "observations": rng.normal(1.25, 1e-3, (rows, 4)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminals": np.arange(rows) % 4 == 3,
        "timeouts": np.arange(rows) == 8,
    }
    arrays["observations"][:, 3] = 0
    stream = io.BytesIO()
    with h5py.File(stream, "w", libver=libver) as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, **options)
    return stream.getvalue(), arrays


def slow_episodes(arrays: Mapping[str, np.ndarray], robot: Robot = TINY) -> list | None:
    """The episodes of these arrays step by step, as `view_episodes` shows them; None where they must be refused."""
    flags = [np.frombuffer(arrays[name].tobytes(), np.uint8) for name in ("terminals", "timeouts")]
    if any((flag > 1).any() for flag in flags):
        return None
    steps, ends = {name: [] for name in ("observations", "actions", "rewards")}, [0]
    for t in range(len(arrays["rewards"])):
        for name, kept in steps.items():
            kept.append(arrays[name][t])
        if flags[0][t] or flags[1][t]:
            ends.append(t + 1)
    whole = {name: np.array(kept[: ends[-1]], np.float32) for name, kept in steps.items()}
    observations, actions = whole["observations"], whole["actions"]
    if len(ends) < 2 or max(np.diff(ends)) > 2 * robot.max_steps:
        return None
    if not all(np.isfinite(values).all() for values in whole.values()) or (observations[:, 3] != 0).any():
        return None
    if np.abs(actions).max() > 1 + 1e-5 or abs(np.median(observations[ends[:-1], 0]) - 1.25) > 0.015:
        return None
    return [observations[:, :3], actions, whole["rewards"], np.array(ends)]


def _hdf5(folder: Path) -> Reader:
    def view(found: Any) -> list:
        return [found.observations, found.actions, found.rewards, found.starts]

    read = through(folder / "m.hdf5", lambda path: read_episodes(path, TINY))
    whole, arrays = _trajectories("earliest")
    true = slow_episodes(arrays)
    seeds = [
        Seed("contiguous, as h5py writes by default", whole, read, unsigned(whole, arrays, true, view, slow_episodes))
    ]
    chunked, _ = _trajectories("earliest", chunks=True, compression="gzip")
    seeds.append(Seed("gzip chunks", chunked, read, headers_only(true, view)))
    checked, _ = _trajectories("latest", chunks=True, fletcher32=True)

    def summed(content: bytes, found: Any) -> bool | None:
        if found is None or same(view(found), true):
            return True
        # Fletcher's checksum of zeros is zero: a chunk that was wiped together with its checksum looks whole
        wiped = all(new == 0 for new, old in zip(content, checked, strict=False) if new != old)
        return None if wiped else False

    seeds.append(Seed("with checksums", checked, read, summed))
    return Reader("hdf5", tuple(seeds), (DatasetError,))


MAKERS = {"parquet": _parquet, "hdf5": _hdf5}
