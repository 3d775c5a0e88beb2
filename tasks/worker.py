"""What a launcher runs, on whatever machine: one job, or the preflight check of its node.

It lies in the package, not in the script, so that a worker takes it from its own installation: with its own project
folder, data root and results folder.
"""

from __future__ import annotations

import json
import logging
import re
import time
import warnings
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parent.parent
POLL_SECONDS = 1.0

# Our files in conf/hydra/launcher have the plugins' names, and their types are checked by the plugins': as meant.
warnings.filterwarnings("ignore", message="(?s).*is validated against ConfigStore schema with the same name")


def run(cfg: Any) -> dict[str, Any]:
    """One job's record. In a single run a user's error ends in its message.

    In a sweep the record of a failed job is returned like any other, since the worker's disk may not be the driver's,
    and a job that another process is at is waited for: that is how a sweep that was killed without its workers is
    gone on with.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    from tasks.errors import ConfigError, DatasetError
    from tasks.suite.atomic import WriteError
    from tasks.suite.identity import RUNTIME_KEYS
    from tasks.suite.locks import RunBusy
    from tasks.suite.records import RecordError

    hydra_cfg = HydraConfig.get()
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    job = {str(key): value for key, value in plain.items()}
    job["runs_dir"] = str(runs_folder(job["runs_dir"]))
    swept = hydra_cfg.mode == RunMode.MULTIRUN
    if job.get("preflight"):
        from tasks.preflight import inspect

        return inspect(json.loads(job["preflight"]), Path(job["runs_dir"]), job["device"])
    from tasks.job import run_job
    from tasks.task import TrainingDiverged

    meant = [part for part in hydra_cfg.overrides.task if re.split("[./=]", part)[0] not in RUNTIME_KEYS]
    command = " ".join(["python scripts/train.py", *meant])
    try:
        return _waiting(job, command) if swept else run_job(job, command=command)
    except (ConfigError, DatasetError, RunBusy, RecordError, TrainingDiverged, WriteError) as error:
        return _returned(error, swept)
    except Exception as error:
        if not swept:
            raise
        return _returned(error, swept)


def runs_folder(runs_dir: str) -> Path:
    """The results folder; a relative one is below the project."""
    return ROOT / runs_dir


def _waiting(job: dict[str, Any], command: str) -> dict[str, Any]:
    from tasks.job import run_job
    from tasks.suite.locks import RunBusy

    told = False
    while True:
        try:
            return run_job(job, command=command)
        except RunBusy as busy:
            if not told:
                log.warning("%s: waiting", busy)
            # Its end is this job's too, whatever was to be forced.
            told, job = True, job | {"force": False}
            time.sleep(POLL_SECONDS)


def _returned(error: Exception, swept: bool) -> dict[str, Any]:
    record = vars(error).get("record")
    if not swept:
        raise SystemExit(f"error: {error}") from None
    if record is None:
        raise error
    return record
