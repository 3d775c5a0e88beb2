"""The record: one JSON file per job, the only source of every table, figure and report.

`compose` builds one from a job's config and outcome, `write` puts it at `<runs>/<run_id>/record.json` atomically,
`read` and `read_all` accept it back only if it is whole: right schema version, right types, an intact checksum, and
a run id that follows from the config and data hashes it carries.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tasks.suite.atomic import remove_leftovers, write_atomic
from tasks.suite.environment import environment
from tasks.suite.identity import IdentityError, canonical_json, config_hash, run_id, semantic_config
from tasks.suite.sanitise import clean_metrics, finite, scrub

SCHEMA_VERSION = 1
RECORD_NAME = "record.json"
_RERUN = "delete the file, or its folder, and run the job again"
_SCHEMA = Path(__file__).with_name("record.schema.json")


class RecordError(ValueError):
    """A record that cannot be trusted: the file, what is wrong with it, and the way out."""

    def __init__(self, path: Path | str, reason: str, fix: str = _RERUN) -> None:
        super().__init__(f"{path}: {reason}; {fix}")
        self.path, self.reason, self.fix = Path(path), reason, fix


class Gathered(NamedTuple):
    """What `read_all` found: the records, ordered by run id, and an error for every file it had to leave out."""

    records: list[dict[str, Any]]
    problems: list[RecordError]


def compose(
    cfg: Mapping[str, Any],
    *,
    dataset: str,
    label: str,
    variant: str | None,
    status: str,
    sha256: Mapping[str, str] | None = None,
    source: str | None = None,
    metrics: Mapping[str, Mapping[str, Any]] | None = None,
    reason: str | None = None,
    **facts: Any,
) -> dict[str, Any]:
    """A complete record as a plain dict, its identity taken from `cfg` and the data's hashes.

    Args:
        cfg: the job's config, as for `identity.run_id`; needs `profile`, `protocol`, `seed` too.
        dataset, label, variant, sha256, source: as in `tasks.data.Resolved`; variant None when nothing resolved.
        metrics: split -> name -> (value, n, unit, higher_is_better), a tuple or a mapping.
        facts: any other top-level field of the schema (selection, error, fix, wall_seconds, parameters ...).

    A done job with a NaN or infinite metric comes back as failed, with the reason; the number itself is left out.

    Raises:
        TypeError: for a field the schema does not have.
        IdentityError: where `cfg` makes no run id.
    """
    sources = dict(sha256 or {})
    measures, broken = clean_metrics(metrics or {})
    if broken and status == "done":
        status, reason = "failed", "not a finite number: " + ", ".join(broken)
    record: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id(cfg, label, sources),
        "config_hash": config_hash(cfg, label, sources),
        "status": status,
        "reason": reason,
        "family": cfg["task"]["family"],
        "dataset": dataset,
        "variant": variant,
        "label": label,
        "horizon": cfg.get("horizon"),
        "fold": cfg.get("fold"),
        "model": cfg["model"]["name"],
        "seed": int(cfg["seed"]),
        "profile": cfg["profile"],
        "protocol": cfg["protocol"],
        "protocol_version": cfg["task"]["protocol_version"],
        "metrics": measures,
        "config": semantic_config(cfg),
        "data": {"sha256": sources, "source": source},
    }
    optional = [key for key in schema_fields() if key not in record and key != "checksum"]
    unknown = sorted(set(facts) - set(optional))
    if unknown:
        raise TypeError(f"a record has no field {', '.join(unknown)}; the fields are {', '.join(optional)}")
    record |= {key: {} if key == "artefacts" else None for key in optional} | environment()
    record |= finite(facts)
    for text in ("reason", "fix", "command"):
        record[text] = scrub(record[text])
    if record["error"]:
        record["error"] = {k: scrub(v) if isinstance(v, str) else v for k, v in record["error"].items()}
    return record


def write(record: Mapping[str, Any], runs_dir: Path) -> Path:
    """Validate, seal with a checksum, and write `<runs_dir>/<run_id>/record.json` atomically. Hold the RunLock.

    Raises:
        RecordError: if the record breaks the schema or holds a NaN; nothing is written.
        WriteError: if the folder or disk refuses; the older record, if any, stays as it was.
    """
    path = Path(runs_dir) / str(record.get("run_id")) / RECORD_NAME
    sealed = dict(record)
    sealed["checksum"] = checksum(sealed, path)
    validate(sealed, path)
    text = json.dumps(sealed, indent=1, sort_keys=True, allow_nan=False) + "\n"
    write_atomic(path, text.encode())
    remove_leftovers(path)
    return path


def read(path: Path) -> dict[str, Any]:
    """The record at `path`.

    Raises:
        RecordError: unreadable, not JSON, of another schema version, edited by hand, or in the wrong folder.
    """
    try:
        record = json.loads(Path(path).read_bytes(), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(path, f"cannot be read as JSON ({error})") from error
    validate(record, path)
    if record["run_id"] != Path(path).parent.name:
        raise RecordError(path, f"lies in the wrong folder: its run id is {record['run_id']}")
    return record


def validate(record: Any, path: Path | str) -> None:
    """Raise RecordError unless `record` fits the schema, its checksum and its own identity."""
    if not isinstance(record, dict):
        raise RecordError(path, f"a record is a JSON object, not {type(record).__name__}")
    if record.get("schema_version") != SCHEMA_VERSION:
        version = record.get("schema_version", "missing")
        fix = f"this suite reads version {SCHEMA_VERSION}: use the suite that wrote it, or run the job again"
        raise RecordError(path, f"a foreign record (schema_version {version})", fix)
    if not _validator().is_valid(record):
        error = min(
            _validator().iter_errors(record), key=lambda e: ("allOf" in e.schema_path, len(e.path), e.json_path)
        )
        raise RecordError(path, f"field {error.json_path}: {error.message[:300]}")
    if record["checksum"] != checksum(record, path):
        raise RecordError(path, "edited by hand, or damaged: its checksum does not fit its content")
    _check_identity(record, path)


def _check_identity(record: Mapping[str, Any], path: Path | str) -> None:
    """The run id, hash and names must follow from the config and data hashes that the record carries."""
    config, label, sources = record["config"], record["label"], record["data"]["sha256"]
    try:
        name = run_id({**config, "seed": record["seed"], "fold": record["fold"]}, label, sources)
    except IdentityError as error:
        raise RecordError(path, str(error)) from error
    if record["run_id"] != name or record["config_hash"] != config_hash(config, label, sources):
        raise RecordError(path, f"its run id does not follow from its config and data hashes, which make {name}")
    task = config["task"]
    named = {"family": task["family"], "protocol_version": task["protocol_version"], "model": config["model"]["name"]}
    named |= {key: config.get(key) for key in ("horizon", "profile", "protocol")}
    for key, value in named.items():
        if record[key] != value:
            raise RecordError(path, f"its {key} is {record[key]!r}, but in its config {value!r}")


def read_all(*runs_dirs: Path) -> Gathered:
    """Every `<runs_dir>/*/record.json`; whatever cannot be used is reported by path, none is dropped silently.

    A folder that does not exist holds no records. Of equal records with one run id (results gathered from several
    workers) the first is kept and the others are reported; if they disagree, all of them are left out and reported.
    """
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    problems: list[RecordError] = []
    disputed: set[str] = set()
    for path in (path for folder in runs_dirs for path in sorted(Path(folder).glob(f"*/{RECORD_NAME}"))):
        try:
            record = read(path)
        except RecordError as error:
            problems.append(error)
            continue
        first = found.setdefault(record["run_id"], (path, record))
        if first[0] == path:
            continue
        agree = outcome(first[1]) == outcome(record)
        disputed |= set() if agree else {record["run_id"]}
        what = "a duplicate of" if agree else "disagrees with the record of the same run at"
        problems.append(RecordError(path, f"{what} {first[0]}", "keep one of the two"))
    kept = [record for name, (_, record) in sorted(found.items()) if name not in disputed]
    for name in sorted(disputed):
        problems.append(RecordError(found[name][0], "left out: another record of this run disagrees", "keep one"))
    return Gathered(kept, problems)


def outcome(record: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that must be bitwise equal when a job is run again: not time, host or commit."""
    return {key: record[key] for key in ("run_id", "status", "metrics", "selection", "weights_sha256")}


def checksum(record: Mapping[str, Any], path: Path | str = "record") -> str:
    """SHA-256 of the record's canonical JSON without its `checksum` field. RecordError for a NaN or foreign type."""
    try:
        text = canonical_json({key: value for key, value in record.items() if key != "checksum"})
    except ValueError as error:
        raise RecordError(path, str(error).replace("config", "record", 1), "only finite, plain values") from error
    return hashlib.sha256(text.encode()).hexdigest()


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def schema_fields() -> tuple[str, ...]:
    """The top-level fields of a record, in the schema's order."""
    return tuple(_schema()["required"])


@cache
def _schema() -> dict[str, Any]:
    return json.loads(_SCHEMA.read_text())


@cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(_schema())
