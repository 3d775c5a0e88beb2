"""W&B's copy against the records: the real SDK writes offline runs, which are read back from its own files."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from wandb.proto import wandb_internal_pb2

import tasks.mirror
import tasks.tracking
from tasks.errors import ConfigError
from tasks.job import run_job
from tasks.mirror import MirrorError, Target, mirror
from tasks.suite import records
from tasks.suite.coverage import Coverage
from tasks.suite.layout import FAMILY_OF
from tasks.suite.references import load_references
from tasks.suite.tables import build
from tasks.tracking import describe, logged_in, summary_of, tracked

ROOT = Path(__file__).resolve().parents[2]
WANDB = {"name": "wandb", "mode": "offline", "project": "aaren", "entity": None}


def messages(path):
    """The records of a `.wandb` file: a LevelDB log (blocks of 32 KiB, chunks with a 7-byte head) behind 7 bytes."""
    data, place, whole = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _, size, kind = struct.unpack_from("<IHB", data, place)
        whole += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # a full record, or the last chunk of one
            message = wandb_internal_pb2.Record()
            message.ParseFromString(whole)
            yield message
            whole = b""


def read_run(path):
    """What a server would be told: the run, its config, its curve and its last summary."""
    found = {"config": {}, "history": [], "summary": {}}
    for message in messages(path):
        if message.HasField("run"):
            found["run"] = message.run
            found["config"] |= {item.key: json.loads(item.value_json) for item in message.run.config.update}
        for item in message.summary.update if message.HasField("summary") else ():
            found["summary"][item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        if message.HasField("history"):
            found["history"].append(
                {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in message.history.item}
            )
        if message.HasField("exit"):
            found["exit"] = message.exit.exit_code
    return found


def offline_runs(folder):
    """Run id -> what its file says; one file a run id."""
    found = {}
    for path in sorted(folder.rglob("*.wandb")):
        name = path.stem.removeprefix("run-")
        assert name not in found, "a run was kept twice"
        found[name] = read_run(path)
    return found


@pytest.fixture
def no_login(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))


@pytest.fixture
def done(job, no_login):
    """Two records of one process, logged as they ran; and the folder."""
    cfgs = [job("dataset=JapaneseVowels", f"model={name}") | {"logger": WANDB} for name in ("aaren", "majority")]
    return [run_job(cfg) for cfg in cfgs], Path(cfgs[0]["runs_dir"])


def _tables(found):
    ready = {name: Coverage(True, name) for name in FAMILY_OF}
    return {
        ("smoke", "honest"): build(
            found, profile="smoke", protocol="honest", coverage=ready, references=load_references()
        )
    }


def test_live_and_mirrored_runs_say_what_the_records_say(done, tmp_path):
    found, runs = done
    live = offline_runs(runs.parent / "wandb")
    assert sorted(live) == sorted(record["run_id"] for record in found)

    found = [records.read(path) for path in sorted(runs.glob("*/record.json"))]
    target = Target("aaren", None, tmp_path / "mirror", online=False)
    assert all(new for _, new in mirror(found, _tables(found), target))
    mirrored = offline_runs(tmp_path / "mirror")
    report = mirrored.pop("report-smoke-honest")
    assert report["run"].job_type == "report"
    logged = {key for row in report["history"] for key in row if key.startswith("tables/")}
    assert {"tables/summary", "tables/table4_classification"} <= {key.split("/_type")[0] for key in logged}
    for record in found:
        for one in (live[record["run_id"]], mirrored[record["run_id"]]):
            run = one["run"]
            assert run.run_id == record["run_id"]
            assert run.run_group == "classification/JapaneseVowels"
            assert run.job_type == record["model"]
            assert {"smoke", "honest", "classification", "JapaneseVowels", record["model"]} <= set(run.tags)
            assert one["config"]["seed"] == record["seed"]
            assert one["config"]["task"] == record["config"]["task"]
            expected = {key: value for key, value in summary_of(record).items() if value is not None}
            for key in expected.keys() - {"wall_seconds"}:
                assert one["summary"][key] == expected[key], key
            assert one["exit"] == 0
            curve = [row for row in one["history"] if "val/accuracy" in row]
            assert len(curve) >= len(record["artefacts"]["history"])
        rows = record["artefacts"]["history"]
        curve = [row for row in mirrored[record["run_id"]]["history"] if "train/loss" in row]
        assert [(row["trainer/global_step"], row["train/loss"]) for row in curve] == [
            (row["step"], row["train/loss"]) for row in rows
        ]

    assert not any(new for _, new in mirror(found, _tables(found), target)), "nothing is sent twice"
    assert len(list((tmp_path / "mirror").rglob("*.wandb"))) == 3


class _Stops:
    """Stands for the sending of a run: notes it, and fails at the n-th."""

    def __init__(self, limit):
        self.sent, self.limit = [], limit

    def __call__(self, record, target):
        import wandb

        if len(self.sent) == self.limit:
            raise wandb.errors.CommError("connection refused")
        self.sent.append(record["run_id"])


def _some(count=4):
    return [{"run_id": f"run-{n}", "checksum": f"{n}" * 64, "status": "done"} for n in range(count)]


def test_an_interrupted_mirror_goes_on_and_a_changed_record_is_sent_again(monkeypatch, tmp_path):
    target = Target("aaren", "team", tmp_path, online=True)
    stops = _Stops(2)
    monkeypatch.setattr(tasks.mirror, "_send_record", stops)
    with pytest.raises(MirrorError, match=r"after 2 of 4 runs \(connection refused\); the same command goes on"):
        list(mirror(_some(), {}, target))
    stops.limit = 99
    assert [new for _, new in mirror(_some(), {}, target)] == [False, False, True, True]
    changed = _some()
    changed[1]["checksum"] = "f" * 64
    assert list(mirror(changed, {}, target))[1] == ("run-1", True)
    assert stops.sent == ["run-0", "run-1", "run-2", "run-3", "run-1"]
    other = target._replace(project="elsewhere")
    assert all(new for _, new in mirror(changed, {}, other)), "a ledger is for one project"
    target.ledger.write_text("[")
    with pytest.raises(MirrorError, match="delete it"):
        list(mirror(changed, {}, target))


def test_without_a_login_the_way_out_is_said(no_login, tmp_path):
    shown = subprocess.run(
        [sys.executable, ROOT / "scripts" / "wandb_sync.py"], capture_output=True, text=True, cwd=tmp_path
    )
    assert shown.returncode == 2
    assert "wandb login" in shown.stderr
    assert "--offline" in shown.stderr
    cfg = {"task": {"family": "events"}, "model": {"name": "aaren"}, "profile": "smoke", "protocol": "honest"}
    online = tracked(WANDB | {"mode": "online"}, run_id="x", cfg=cfg, label="Sin", folder=tmp_path)
    with pytest.raises(ConfigError, match=r"wandb login.*make wandb-sync"), online:
        pass


UNREACHABLE = """
import sys
from pathlib import Path
import tasks.tracking
from tasks.errors import ConfigError
tasks.tracking.INIT_SECONDS = 1.0
folder = Path(sys.argv[1])
cfg = {"task": {"family": "events"}, "model": {"name": "aaren"}, "profile": "smoke", "protocol": "honest"}
logger = {"name": "wandb", "project": "aaren", "mode": "auto"}
with tasks.tracking.tracked(logger, run_id="x", cfg=cfg, label="Sin", folder=folder) as tracker:
    tracker.log_metrics({"val/nll": 1.0}, step=1)
try:
    with tasks.tracking.tracked(logger | {"mode": "online"}, run_id="y", cfg=cfg, label="Sin", folder=folder):
        pass
except ConfigError as error:
    print(error)
"""


def test_a_server_that_refuses_costs_a_warning_and_mode_online_says_the_way_out(
    no_login, monkeypatch, tmp_path, caplog
):
    import wandb

    real, asked = tasks.tracking.start, []

    def refusing(run_id, about, *, online, **where):
        asked.append(online)
        if online:
            raise wandb.errors.CommError("connection refused")
        return real(run_id, about, online=online, **where)

    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(tasks.tracking, "start", refusing)
    cfg = {"task": {"family": "events"}, "model": {"name": "aaren"}, "profile": "smoke", "protocol": "honest"}
    with tracked(WANDB | {"mode": "auto"}, run_id="x", cfg=cfg, label="Sin", folder=tmp_path) as logger:
        logger.log_metrics({"val/nll": 1.0}, step=1)
    assert asked == [True, False]
    assert "make wandb-sync" in caplog.text
    assert list(offline_runs(tmp_path)) == ["x"]
    online = tracked(WANDB | {"mode": "online"}, run_id="y", cfg=cfg, label="Sin", folder=tmp_path)
    with pytest.raises(ConfigError, match=r"cannot be used \(connection refused\); .*logger\.mode=offline"), online:
        pass


@pytest.mark.long
def test_without_a_server_mode_auto_goes_on_offline(tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    environment |= {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", UNREACHABLE, tmp_path], capture_output=True, text=True, env=environment, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert "make wandb-sync" in done.stderr
    assert re.search(r"127\.0\.0\.1:9 cannot be used .*logger\.mode=offline", done.stdout, re.DOTALL), done.stdout
    (kept,) = tmp_path.rglob("offline-run-*/run-x.wandb")
    assert [row["val/nll"] for row in read_run(kept)["history"]] == [1.0]


@pytest.mark.parametrize(
    ("machine", "server", "found"),
    [
        ("api.wandb.ai", None, True),
        ("api.forge.coreweave.com", None, True),
        ("localhost:8080", "http://localhost:8080", True),
        ("api.wandb.ai", "http://localhost:8080", False),
    ],
)
def test_a_key_is_found_where_the_sdk_finds_it(no_login, monkeypatch, tmp_path, machine, server, found):
    from wandb.sdk.lib import urls
    from wandb.sdk.lib.wbauth.wbnetrc import read_netrc_auth

    (tmp_path / "none").write_text(f"machine {machine}\n  login user\n  password {'0' * 40}\n")
    monkeypatch.setenv("WANDB_BASE_URL", server or "")
    assert logged_in() is found
    assert (read_netrc_auth(host=server or urls.DEFAULT_BASE_URL) is not None) is found


def test_tags_stay_within_what_wandb_takes():
    cfg = {
        "task": {"family": "rl"},
        "model": {"name": "m" * 90},
        "profile": "quick",
        "protocol": "honest",
        "horizon": 96,
    }
    about = describe(cfg, "label")
    assert max(map(len, about["tags"])) == 64
    assert "horizon 96" in about["tags"]
