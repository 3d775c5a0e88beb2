"""A finished run back in memory: its record, its data, and its task model with the weights that were scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from tasks.checkpoints import CheckpointError, read_checkpoint
from tasks.data import resolve, verified
from tasks.errors import ConfigError, near_misses
from tasks.job import load
from tasks.plugins import import_plugin
from tasks.suite import records
from tasks.suite.identity import semantic_config
from tasks.task import Task, TaskData
from tasks.training import BEST, weights_sha256


class Saved(NamedTuple):
    """A run: its folder, record, data and trained task."""

    folder: Path
    record: dict[str, Any]
    data: TaskData
    task: Task


def open_run(run_id: str, runs_dir: Path, plugin: Path | None = None) -> Saved:
    """Rebuild the task model of a run from its record, and load the weights that the record names.

    Args:
        plugin: the file that registered the run's attention, for `model=custom`.

    Raises:
        ConfigError: no such run, a run that is not done or was not trained, weights that are not there or not those
            of the record, other data than it was trained on.
        RecordError: a record that cannot be trusted. DatasetError: data that are not there any more.
    """
    folder = _folder(run_id, runs_dir)
    record = records.read(folder / records.RECORD_NAME)
    config = record["config"]
    if record["status"] != "done":
        raise ConfigError("run", run_id, f"the run is {record['status']} ({record['reason']}); finish it first")
    if config["model"]["attention"] is None:
        raise ConfigError("run", run_id, f"{record['model']} is a model without training: it has no weights, no state")
    state = _weights(run_id, folder)
    _plug_in(config["model"].get("plugin"), plugin)
    source = verified(resolve(record["dataset"], record["variant"]))
    if dict(source.sha256) != record["data"]["sha256"]:
        reason = f"{source.label} is not the data that the run was trained on; its files have changed"
        raise ConfigError("run", run_id, f"{reason}: python scripts/data.py verify {record['dataset']}")
    data, task = load({**config, "seed": record["seed"], "fold": record["fold"]}, source)
    try:
        task.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise ConfigError("run", run_id, f"{BEST} does not fit the model of its record ({error})") from error
    if weights_sha256(task) != record["weights_sha256"]:
        raise ConfigError(
            "run", run_id, f"{BEST} does not hold the weights that the record was made with; {_again(folder)}"
        )
    return Saved(folder, record, data, task.eval())


def _folder(run_id: str, runs_dir: Path) -> Path:
    known = sorted(path.parent.name for path in runs_dir.glob(f"*/{records.RECORD_NAME}"))
    if run_id in known:
        return runs_dir / run_id
    if not known:
        raise ConfigError("run", run_id, f"there are no runs in {runs_dir}; make some: python scripts/train.py --help")
    near = near_misses(run_id, known)
    hint = f"did you mean {' or '.join(near)}?" if near else f"{len(known)} are there, for instance {known[0]}"
    raise ConfigError("run", run_id, f"no such run in {runs_dir}; {hint}")


def _weights(run_id: str, folder: Path) -> dict[str, Any]:
    path = folder / "checkpoints" / BEST
    if not path.is_file():
        raise ConfigError("run", run_id, f"its weights are not there ({path}); {_again(folder)}")
    try:
        return read_checkpoint(path)["state_dict"]
    except (CheckpointError, KeyError) as error:
        reason = f"{path} cannot be read as weights ({error})"
        raise ConfigError("run", run_id, f"{reason}; {_again(folder)}") from error


def _again(folder: Path) -> str:
    return f"delete {folder} and run the job again"


def _plug_in(meant: dict[str, Any] | None, plugin: Path | None) -> None:
    """Import the user's file, if it is the one of the record."""
    if meant is None:
        return
    if plugin is None:
        raise ConfigError(
            "plugin", None, f"the run's attention was registered by {meant['file']}; give plugin=<its path>"
        )
    if semantic_config({"model": {"plugin": str(plugin)}})["model"]["plugin"]["sha256"] != meant["sha256"]:
        raise ConfigError("plugin", str(plugin), f"not the {meant['file']} of the run: it has another SHA-256")
    import_plugin(plugin)
