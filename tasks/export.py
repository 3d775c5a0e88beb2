"""A trained run's streaming step as ONNX, beside the run: exported, checked against torch, described for its host.

`<run>/export/step.onnx` is the graph, `<run>/export/step.json` says what goes in and comes out, how a stream starts,
and what the check found. Neither is there unless the check passed.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from aaren.export import NEEDED, export_step, require_onnx
from tasks.exportable import MOST, Checked, Exportable, check
from tasks.saved import Saved, open_run
from tasks.suite.atomic import write_atomic

STEPS = 1000
MODEL_NAME, DESCRIPTION_NAME = "step.onnx", "step.json"


class ExportFailed(RuntimeError):
    """The exported step does not do what torch does; nothing is left of it."""


class Exported(NamedTuple):
    """Where the files are, their size, and what the check found."""

    model: Path
    description: Path
    size: int
    state_size: int
    capacity: int | None
    checked: Checked


def export_run(run_id: str, runs_dir: Path, *, steps: int = STEPS, plugin: Path | None = None) -> Exported:
    """Export the step of a run, compare it with the family's own stream over `steps` steps of real data, write it.

    Raises:
        OnnxMissing: the packages of the extra `onnx` are not installed.
        ExportFailed: an output differs by more than MOST.
        ConfigError, RecordError, DatasetError: see `open_run`; or a model without a state to export.
        WriteError: the run's folder cannot be written.
    """
    require_onnx()
    saved = open_run(run_id, runs_dir, plugin)
    folder = saved.folder / "export"
    targets = folder / MODEL_NAME, folder / DESCRIPTION_NAME
    family = importlib.import_module(f"tasks.{saved.record['family']}.export")
    exportable: Exportable = family.exportable(saved.task, saved.data)
    model = export_step(exportable.step)
    checked = check(exportable, model, steps)
    if not checked.passed:
        for path in targets:
            path.unlink(missing_ok=True)
        raise ExportFailed(
            f"{run_id}: {checked.output or 'no output'} differs from torch's by {checked.difference:.3g} over "
            f"{checked.compared} compared steps, more than {MOST:g}; nothing is written. Try the versions of "
            "constraints.txt"
        )
    description = _describe(saved, exportable, model, checked)
    write_atomic(targets[0], model)
    write_atomic(targets[1], (json.dumps(description, indent=2, allow_nan=False) + "\n").encode())
    step = exportable.step
    return Exported(*targets, len(model), description["state_bytes_per_stream"], step.capacity, checked)


def _describe(saved: Saved, exportable: Exportable, model: bytes, checked: Checked) -> dict[str, Any]:
    record = saved.record
    return {
        "run_id": record["run_id"],
        "family": record["family"],
        "data": record["label"],
        "model": record["model"],
        "weights_sha256": record["weights_sha256"],
        "onnx_sha256": hashlib.sha256(model).hexdigest(),
        "bytes": len(model),
        **exportable.step.describe(),
        "guide": list(exportable.guide),
        "scaling": dict(exportable.scaling),
        "check": {
            "steps": checked.steps,
            "compared": checked.compared,
            "largest_difference": checked.difference,
            "difference": "|onnxruntime - torch| / max(1, |torch|), every element of every output",
            "bar": MOST,
            "onnxruntime_median_seconds": checked.onnx_seconds,
            "torch_median_seconds": checked.torch_seconds,
        },
        "versions": {name: version(name) for name in ("torch", *NEEDED)},
    }
