"""What every part of the fault runs shares: trials that are on disk as soon as they happened, and where they were run.

A part leaves two files in results/reliability: `<part>.csv`, a row a trial, and `<part>.json`, what was promised and
how often it held.  `finished` is null until the part has ended; a part that was cut off goes on with its next trial.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.suite.atomic import write_atomic
from tasks.suite.environment import environment

ROOT = Path(__file__).resolve().parent.parent
RELIABILITY = ROOT / "results" / "reliability"
Row = dict[str, Any]


class Part:
    """One part's trials and result: `add` each trial, then `finish`; `with` is not needed, every call leaves files.

    Args:
        name: the files are `<name>.csv` and `<name>.json`.
        promise: what is shown, in one sentence.
        command: what repeats it.
        out: the folder, made if need be.
        settings: what must be equal for a part that was cut off to be gone on with.

    Attributes:
        seen: the trials there are from a run of the same commit and settings that was cut off.
    """

    def __init__(
        self, name: str, promise: str, command: str, out: Path = RELIABILITY, settings: Mapping[str, Any] | None = None
    ) -> None:
        made = environment()
        self.out, self.name = Path(out), name
        self._state: dict[str, Any] = {
            "part": name,
            "promise": promise,
            "command": command,
            "commit": made["git"]["commit"],
            "dirty": made["git"]["dirty"],
            "packages": made["packages"],
            "hardware": made["hardware"],
            "settings": dict(settings or {}),
            "started": _now(),
            "finished": None,
            "trials": 0,
            "passed": 0,
            "figures": {},
        }
        self.seen = self._resume()

    def add(self, passed: bool, save: bool = True, **facts: Any) -> None:
        """Keep one trial: whether the promise held, and the facts (plain values) that make its row.

        Args:
            save: False leaves it to the next `add` or to `finish` to put it on the disk, where trials are many.
        """
        self.seen.append({"trial": len(self.seen) + 1, **facts, "passed": int(passed)})
        if save:
            self._write()

    def finish(self, **figures: Any) -> bool:
        """Keep the figures; whether every trial passed and there was one."""
        self._state |= {"finished": _now(), "figures": figures}
        self._write()
        return 0 < self._state["trials"] == self._state["passed"]

    def _write(self) -> None:
        passed = sum(int(row["passed"]) for row in self.seen)
        self._state |= {"trials": len(self.seen), "passed": passed}
        columns = list(dict.fromkeys(column for row in self.seen for column in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.seen)
        write_atomic(self.out / f"{self.name}.csv", text.getvalue().encode())
        write_atomic(self.out / f"{self.name}.json", (json.dumps(self._state, indent=1) + "\n").encode())

    def _resume(self) -> list[Row]:
        try:
            state = json.loads((self.out / f"{self.name}.json").read_bytes())
            with (self.out / f"{self.name}.csv").open(newline="") as file:
                rows: list[Row] = list(csv.DictReader(file))
        except (OSError, ValueError):
            return []
        same = all(state.get(key) == self._state[key] for key in ("commit", "dirty", "settings"))
        if state.get("finished") is not None or not same or len(rows) != state.get("trials"):
            return []
        self._state["started"] = state["started"]
        return rows


def smoke_job(*overrides: str) -> dict[str, Any]:
    """The plain config of a job of the smoke profile, without a logger, as `scripts/train.py` would compose it."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    fixed = ["logger=none", "progress=none", "profile=smoke"]
    with initialize_config_dir(version_base="1.3", config_dir=str(ROOT / "conf")):
        cfg = OmegaConf.to_container(compose("train", overrides=[*fixed, *overrides]), resolve=True)
    assert isinstance(cfg, dict)
    return {str(key): value for key, value in cfg.items()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
