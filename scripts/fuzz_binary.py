"""The binary formats: what carries checksums must read back true or not at all.

A parquet page and an old HDF5 file carry none. Where only bytes of values were altered, the file says other numbers,
and these must be read; where a header was altered and the reader still takes the file, the format gives no means to
tell, and the judge says None: that is what the hash before the parser is for.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fuzz_mutate import Judge, Reader, Seed, through

from tasks import npz
from tasks.cache import cache_path, load_cached
from tasks.checkpoints import CheckpointError, read_checkpoint
from tasks.errors import DatasetError
from tasks.events import importers
from tasks.events.readers import read_npz, read_parquet
from tasks.forecasting.series import read_series
from tasks.locate import Resolved
from tasks.rl.d4rl import read_episodes
from tasks.rl.policies import GaussianPolicy, load_own
from tasks.rl.robots import ROBOTS, Robot
from tasks.suite import records
from tasks.suite.manifest import VariantEntry

TINY = Robot("hopper", "Hopper-v4", 4, 3, 2, 2, 0.0, 1.0, max_steps=6)  # dimension 3 is zero, like Ant's forces


def same(found: Any, true: Any) -> bool:
    """Equal containers, numbers and arrays, NaN equal to NaN, types included."""
    if isinstance(true, np.ndarray) or hasattr(true, "numpy"):
        a, b = np.asarray(found), np.asarray(true)
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=b.dtype.kind == "f")
    if isinstance(true, Mapping):
        return list(found) == list(true) and all(same(found[key], true[key]) for key in true)
    if isinstance(true, (list, tuple)):
        return len(found) == len(true) and all(map(same, found, true))
    return type(found) is type(true) and found == true


def _signed(true: Any) -> Judge:
    """The judge of a format with checksums: the true content or none."""
    return lambda content, found: found is None or same(found, true)


def _unsigned(
    whole: bytes, values: Mapping[str, np.ndarray], true: Any, view: Callable[[Any], Any], build: Any
) -> Judge:
    """The judge of a format without: `values` lie in `whole` as they are in memory.

    Args:
        view: what was read, as plain arrays; `true` is that of the whole file.
        build: values -> what must be read where nothing but they differ, None where they must be refused.
    """
    # the last place: a few small flags may stand by chance in the header, too
    places = {name: (whole.rindex(array.tobytes()), array) for name, array in values.items()}

    def judge(content: bytes, found: Any) -> bool | None:
        if found is not None and same(view(found), true):
            return True
        altered = (
            np.frombuffer(content, np.uint8) != np.frombuffer(whole, np.uint8) if len(content) == len(whole) else None
        )
        said = {}
        for name, (start, array) in places.items():
            piece = content[start : start + array.nbytes]
            if altered is not None:
                altered[start : start + array.nbytes] = False
                said[name] = np.frombuffer(piece, array.dtype).reshape(array.shape)
        if altered is None or altered.any():
            return True if found is None else None
        expected = build(said)
        return found is None if expected is None else found is not None and same(view(found), expected)

    return judge


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
    seeds = [Seed("series, plain", whole, read, _unsigned(whole, {"date": stamps, **values}, true, view, build))]
    for name, options in (
        ("series, as published", {}),
        ("series, with page checksums", {"write_page_checksum": True, "use_dictionary": False}),
    ):
        content = _written(table, **options)
        seeds.append(Seed(name, content, read, _headers_only(true, view)))
    seeds.append(_event_parquet(folder))
    return Reader("parquet", tuple(seeds), (DatasetError,))


def _headers_only(true: Any, view: Callable[[Any], Any]) -> Judge:
    """Nothing can be said of a compressed page, or of a footer, but that the true content is true."""
    return lambda content, found: True if found is None or same(view(found), true) else None


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
    return Seed("events, plain", whole, read, _unsigned(whole, values, true, view, build))


def _npz(folder: Path) -> Reader:
    """The parse cache, imported event sets, behaviour policies, and ifl-tpp's npz with its pickled arrays."""
    arrays: dict[str, np.ndarray] = {"values": np.arange(12.0).reshape(3, 4), "names": np.array(["a", "bc"])}
    source = Resolved(
        "known/fuzz", "forecasting", "synthetic", {}, {}, "generated", VariantEntry("synthetic", "", {}, ())
    )
    cached = cache_path(source, 1)
    load_cached(source, lambda _: arrays, 1)
    seeds = [
        Seed(
            "parse cache",
            cached.read_bytes(),
            through(cached, lambda _: load_cached(source, lambda _: arrays, 1)),
            lambda _, found: found is not None and same(dict(sorted(found.items())), dict(sorted(arrays.items()))),
        )
    ]
    stream = io.BytesIO()
    plain = {
        "times": np.array([1.0, 2.0, 5.0, 0.5, 7.25]),
        "marks": np.array([0, 3, 1, 2, 2]),
        "offsets": np.array([0, 3, 5]),
        "window_start": np.zeros(2),
        "window_end": np.full(2, 100.0),
        "split": np.array([0, 2], np.int8),
        "n_marks": np.array(4),
        "unit": np.array("hours"),
        "grid": np.array(0.0),
        "folds": np.array([[0, 2], [2, 0]], np.int8),
    }
    np.savez(stream, **plain)  # pyright: ignore[reportArgumentType]
    seeds.append(_whole("imported events", stream.getvalue(), through(folder / "events.npz", read_npz)))
    times, marks, stream = np.empty(2, object), np.empty(2, object), io.BytesIO()
    times[:], marks[:] = [[0.0, 5.0, 9.0], np.array([1.0, 2.0])], [[0, 1, 2], np.array([1, 1])]
    np.savez(stream, arrival_times=times, marks=marks)

    def read_ifl(path: Path) -> dict[str, np.ndarray]:
        return importers.read_ifl(path, 3, "seconds", (0.0, 10.0)).to_arrays()

    seeds.append(_whole("ifl-tpp", stream.getvalue(), through(folder / "ifl.npz", read_ifl)))
    weights = Path(npz.__file__).parent / "rl" / "weights" / "hopper-random.npz"
    fields = GaussianPolicy.__dataclass_fields__

    def read_policies(path: Path) -> list:
        mixture = load_own(path, ROBOTS["hopper"])
        plain = [{name: getattr(policy, name) for name in fields} for policy in mixture.policies]
        return [plain, mixture.iterations, mixture.shares, mixture.algorithm]

    seeds.append(_whole("policies", weights.read_bytes(), through(folder / "policies.npz", read_policies)))
    return Reader("npz", tuple(seeds), (DatasetError,))


def _whole(name: str, content: bytes, read: Callable[[bytes], Any]) -> Seed:
    """A seed of a format with checksums; its truth is what the reader makes of the undamaged file."""
    return Seed(name, content, read, _signed(read(content)))


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
        Seed("contiguous, as h5py writes by default", whole, read, _unsigned(whole, arrays, true, view, slow_episodes))
    ]
    chunked, _ = _trajectories("earliest", chunks=True, compression="gzip")
    seeds.append(Seed("gzip chunks", chunked, read, _headers_only(true, view)))
    checked, _ = _trajectories("latest", chunks=True, fletcher32=True)

    def summed(content: bytes, found: Any) -> bool | None:
        if found is None or same(view(found), true):
            return True
        # Fletcher's checksum of zeros is zero: a chunk that was wiped together with its checksum looks whole
        wiped = all(new == 0 for new, old in zip(content, checked, strict=False) if new != old)
        return None if wiped else False

    seeds.append(Seed("with checksums", checked, read, summed))
    return Reader("hdf5", tuple(seeds), (DatasetError,))


def _records(folder: Path) -> Reader:
    config = {
        "task": {"family": "forecasting", "protocol_version": 1, "optim": {"name": "adam", "lr": 1e-3}},
        "dataset": {"name": "ETTh1", "variant": "auto"},
        "model": {"name": "aaren", "attention": "aaren"},
        "seed": 0,
        "horizon": 192,
        "fold": None,
        "profile": "quick",
        "protocol": "honest",
    }
    measures = {name: (value, 100, "", False) for name, value in (("mse", 0.4), ("mae", 0.41))}
    named = {k: dict(zip(("value", "n", "unit", "higher_is_better"), v, strict=True)) for k, v in measures.items()}
    record = records.compose(
        config,
        dataset="ETTh1",
        label="ETTh1",
        variant="official",
        status="done",
        sha256={"series": "ab" * 32},
        source="data root",
        metrics={"test": named},
        selection={"split": "val", "metric": "mse", "epoch": 3},
        cpu_seconds=10.0,
    )
    # what is measured on this machine is left out, so that a case is the same bytes everywhere
    record |= {"git": {"commit": "c0ffee" * 6 + "c0ff", "dirty": False}, "packages": {"python": "3.11.7"}}
    record["hardware"] = {"cpu": "Some CPU", "cores": 2, "gpu": None}
    path = records.write(record, folder / "runs")
    whole = path.read_bytes()
    return Reader("records", (_whole("done", whole, through(path, records.read)),), (records.RecordError,))


def _checkpoints(folder: Path) -> Reader:
    import torch

    model = torch.nn.Linear(3, 2)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.arange(parameter.numel()).reshape(parameter.shape) / 8 - number)
    optimiser = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    content = {
        "epoch": 1,
        "global_step": 7,
        "state_dict": model.state_dict(),
        "optimizer_states": [optimiser.state_dict()],
        "hyper_parameters": {"optim": {"name": "adam", "lr": 1e-3, "betas": [0.9, 0.98]}},
        "history": [{"val": {"mse": 0.25}}],
    }
    stream = io.BytesIO()
    torch.save(content, stream)
    return Reader(
        "checkpoints",
        (_whole("as training leaves it", stream.getvalue(), through(folder / "last.ckpt", read_checkpoint)),),
        (CheckpointError,),
    )


MAKERS = {
    "parquet": _parquet,
    "npz": _npz,
    "hdf5": _hdf5,
    "records": _records,
    "checkpoints": _checkpoints,
}
