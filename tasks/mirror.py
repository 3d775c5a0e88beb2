"""Records mirrored to a Weights & Biases server: one run a record, its id the run id, and the tables of the report.

The records are the truth. What has been mirrored stands in a ledger, one a server and project, with the checksum of
what was sent: an interrupted mirror goes on where it was, a record that changed is written anew under the same id.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from tasks.suite.atomic import write_atomic
from tasks.suite.render import flat_names
from tasks.suite.table import Table
from tasks.tracking import STEP, describe, host, start, summary_of

Record = Mapping[str, Any]


class MirrorError(RuntimeError):
    """A mirror that cannot go on; says how much is done and what to do."""


class Target(NamedTuple):
    """Where runs go: a project of the server, or offline runs below `folder` that 'wandb sync' can upload."""

    project: str
    entity: str | None
    folder: Path
    online: bool

    @property
    def ledger(self) -> Path:
        """The ledger's file: what is mirrored to one server must still be mirrored to another."""
        words = [host() if self.online else "offline", self.entity or "", self.project]
        return self.folder / f"mirrored-{re.sub(r'[^A-Za-z0-9.]+', '-', '-'.join(filter(None, words)))}.json"


def mirror(
    records: Sequence[Record], tables: Mapping[tuple[str, str], Sequence[Table]], target: Target, *, force: bool = False
) -> Iterator[tuple[str, bool]]:
    """Mirror what the ledger does not have, one run at a time; yields (run id, whether it had to be sent).

    Args:
        records: jobs; those of unavailable data have nothing to show and are left out.
        tables: (profile, protocol) -> tables: a run each, its tables as W&B tables.
        force: send everything again; runs keep their ids.

    Raises:
        MirrorError: the server refuses or cannot be reached, or the ledger cannot be read; what was sent is kept.
    """
    import wandb

    sent = _read(target.ledger)
    shown = [record for record in records if record["status"] != "unavailable"]
    work: list[tuple[str, str, Callable[[], None]]] = [
        (record["run_id"], record["checksum"], partial(_send_record, record, target)) for record in shown
    ]
    for (profile, protocol), group in tables.items():
        digest = hashlib.sha256("\0".join(table.shown.to_json() or "" for table in group).encode()).hexdigest()
        name = f"report-{profile}-{protocol}"
        work.append((name, digest, partial(_send_tables, name, (profile, protocol), group, target)))
    for done, (name, digest, send) in enumerate(work):
        if sent.get(name) == digest and not force:
            yield name, False
            continue
        try:
            send()
        except wandb.Error as error:
            way_out = "the same command goes on there; --offline keeps the runs on this disk"
            raise MirrorError(
                f"{host()} cannot be used after {done} of {len(work)} runs ({error}); {way_out}"
            ) from error
        sent[name] = digest
        write_atomic(target.ledger, (json.dumps(sent, indent=1, sort_keys=True) + "\n").encode(), durable=False)
        yield name, True


def _send_record(record: Record, target: Target) -> None:
    cfg = {**record["config"], "seed": record["seed"], "fold": record["fold"], "variant": record["variant"]}
    run = start(record["run_id"], describe(cfg, record["label"]), **target._asdict())
    try:
        for row in _history(record):
            run.log({STEP: row["step"], **{key: value for key, value in row.items() if key != "step"}})
        run.summary.update(summary_of(record))
    finally:
        run.finish(exit_code=0 if record["status"] == "done" else 1)


def _history(record: Record) -> list[dict[str, Any]]:
    """The record's curve, in order; what is no number is left out."""
    rows = record["artefacts"].get("history")
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    kept = [{key: value for key, value in row.items() if isinstance(value, int | float)} for row in rows]
    return sorted((row for row in kept if "step" in row), key=lambda row: row["step"])


def _send_tables(name: str, where: tuple[str, str], tables: Sequence[Table], target: Target) -> None:
    import wandb

    about = {"group": "report", "job_type": "report", "tags": ["report", *where]}
    run = start(name, {**about, "config": dict(zip(("profile", "protocol"), where, strict=True))}, **target._asdict())
    try:
        for table in tables:
            frame = pd.DataFrame(table.shown.to_numpy(), columns=pd.Index(flat_names(table))).astype(str)
            run.log({f"tables/{table.key}": wandb.Table(columns=list(frame.columns), data=frame.to_numpy().tolist())})
    finally:
        run.finish()


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise MirrorError(f"{path}: the ledger cannot be read ({error}); delete it, and all is sent again") from error
    if not isinstance(found, dict):
        raise MirrorError(f"{path}: is no ledger; delete it, and all is sent again")
    return found
