"""`make verify` on the committed results, on damaged ones, and on records whose configs have changed since."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.requests import Wanted, requests
from tasks.staleness import protocol_versions, stale
from tasks.suite.identity import config_hash, run_id

ROOT = Path(__file__).resolve().parents[2]
MEASURED = ROOT / "results" / "measured"


def _verify(*arguments):
    command = [sys.executable, "scripts/verify.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=250, check=False)


@pytest.fixture(scope="module")
def fresh_records():
    """What today's configs would leave, as far as staleness looks at it: a trained job and a rule of two families."""
    wanted = Wanted(datasets=("known/poisson", "ETTh1"), models=("aaren", "static_lognormal", "repeat_last"))
    return [
        {
            "run_id": run_id(request.cfg, request.label, request.sha256),
            "config_hash": config_hash(request.cfg, request.label, request.sha256),
            "family": request.cfg["task"]["family"],
            "protocol_version": request.cfg["task"]["protocol_version"],
            "model": request.cfg["model"]["name"],
            "label": request.label,
            "data": {"sha256": dict(request.sha256)},
            "command": " ".join(["python scripts/train.py", *request.overrides]),
            **{key: request.cfg[key] for key in ("seed", "horizon", "fold")},
        }
        for request in requests(wanted, ROOT / "conf")[0]
    ]


def test_damaged_results_are_refused_with_the_place(tmp_path):
    copied = tmp_path / "measured"
    shutil.copytree(MEASURED, copied)
    text = (copied / "records.csv").read_text()
    (copied / "records.csv").write_text(text.replace('""seed"":0', '""seed"":1').replace("AMD EPYC", "Other", 1))
    found = _verify("--records", copied, "--no-stale")
    assert found.returncode == 1, found.stdout + found.stderr
    assert "records.csv" in found.stdout
    assert "checksum does not fit" in found.stdout
    assert "is not what the records say" in found.stdout
    shutil.rmtree(copied)
    found = _verify("--records", copied)
    assert found.returncode == 2
    assert "records.csv" in found.stderr


def test_records_of_todays_configs_are_fresh(fresh_records):
    assert {record["model"] for record in fresh_records} == {"aaren", "static_lognormal", "repeat_last"}
    assert stale(fresh_records, ROOT / "conf") == {}


def test_what_makes_a_record_stale(fresh_records):
    record = next(r for r in fresh_records if r["family"] == "forecasting" and r["model"] == "aaren")
    now = protocol_versions(ROOT / "conf")["forecasting"]

    def why(**changes):
        return stale([{**record, **changes}], ROOT / "conf").get(record["run_id"], "")

    assert why() == ""
    assert f"protocol version {now - 1}, now {now}" in why(protocol_version=now - 1)
    assert "use the project version that wrote it" in why(protocol_version=now + 1)
    assert "no family poetry" in why(family="poetry")
    assert "configs of its command have changed" in why(config_hash="0" * 64)
    assert "configs of its command have changed" in why(command=record["command"] + " task.optim.lr=0.5")
    assert "can no longer be composed" in why(command=record["command"] + " task.nothing.like.it=1")
    assert "no model gone" in why(command=record["command"].replace(f"model={record['model']}", "model=gone"))
    assert "names no command" in why(command=None)
