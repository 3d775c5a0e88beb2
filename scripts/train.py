"""Train one job, or sweep with -m:  python scripts/train.py dataset=ETTh1 model=aaren seed=0 profile=quick"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Check the overrides, then hand them to Hydra."""
    from tasks.overrides import check_overrides

    try:
        sys.argv[1:] = check_overrides(sys.argv[1:], ROOT / "conf")
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
    import hydra
    from hydra.core.plugins import Plugins
    from omegaconf import DictConfig

    from tasks import sweeper

    sweeper.register(Plugins.instance())

    @hydra.main(version_base="1.3", config_path=str(ROOT / "conf"), config_name="train")
    def job(cfg: DictConfig) -> dict[str, Any]:
        return run(cfg)

    job()


def run(cfg: Any) -> dict[str, Any]:
    """One job; in a single run a user's error ends in its message, in a sweep the error goes to the sweeper."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    from tasks.errors import ConfigError, DatasetError
    from tasks.job import run_job
    from tasks.suite.atomic import WriteError
    from tasks.suite.identity import RUNTIME_KEYS
    from tasks.suite.locks import RunBusy
    from tasks.suite.records import RecordError
    from tasks.task import TrainingDiverged

    hydra_cfg = HydraConfig.get()
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    job = {str(key): value for key, value in plain.items()}
    job["runs_dir"] = str(ROOT / job["runs_dir"])
    meant = [part for part in hydra_cfg.overrides.task if re.split("[./=]", part)[0] not in RUNTIME_KEYS]
    command = " ".join(["python scripts/train.py", *meant])
    try:
        return run_job(job, command=command)
    except (ConfigError, DatasetError, RunBusy, RecordError, TrainingDiverged, WriteError) as error:
        if hydra_cfg.mode == RunMode.MULTIRUN:
            raise
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
