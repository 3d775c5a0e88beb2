"""Binary formats with checksums: npz and checkpoints (zip's), records (their own)."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from fuzz_judges import same, whole_file
from fuzz_mutate import Reader, Seed, through

from tasks import npz
from tasks.cache import cache_path, load_cached
from tasks.checkpoints import CheckpointError, read_checkpoint
from tasks.errors import DatasetError
from tasks.events import importers
from tasks.events.readers import read_npz
from tasks.locate import Resolved
from tasks.rl.policies import GaussianPolicy, load_own
from tasks.rl.robots import ROBOTS
from tasks.suite import records
from tasks.suite.manifest import VariantEntry


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
    seeds.append(whole_file("imported events", stream.getvalue(), through(folder / "events.npz", read_npz)))
    times, marks, stream = np.empty(2, object), np.empty(2, object), io.BytesIO()
    times[:], marks[:] = [[0.0, 5.0, 9.0], np.array([1.0, 2.0])], [[0, 1, 2], np.array([1, 1])]
    np.savez(stream, arrival_times=times, marks=marks)

    def read_ifl(path: Path) -> dict[str, np.ndarray]:
        return importers.read_ifl(path, 3, "seconds", (0.0, 10.0)).to_arrays()

    seeds.append(whole_file("ifl-tpp", stream.getvalue(), through(folder / "ifl.npz", read_ifl)))
    weights = Path(npz.__file__).parent / "rl" / "weights" / "hopper-random.npz"
    fields = GaussianPolicy.__dataclass_fields__

    def read_policies(path: Path) -> list:
        mixture = load_own(path, ROBOTS["hopper"])
        plain = [{name: getattr(policy, name) for name in fields} for policy in mixture.policies]
        return [plain, mixture.iterations, mixture.shares, mixture.algorithm]

    seeds.append(whole_file("policies", weights.read_bytes(), through(folder / "policies.npz", read_policies)))
    return Reader("npz", tuple(seeds), (DatasetError,))


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
    return Reader("records", (whole_file("done", whole, through(path, records.read)),), (records.RecordError,))


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
        (whole_file("as training leaves it", stream.getvalue(), through(folder / "last.ckpt", read_checkpoint)),),
        (CheckpointError,),
    )


MAKERS = {"npz": _npz, "records": _records, "checkpoints": _checkpoints}
