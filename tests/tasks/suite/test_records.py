"""Records: whole or absent, true to themselves, and never silently dropped."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import numpy as np
import pytest

from tasks.suite import environment as env
from tasks.suite.atomic import WriteError, write_atomic
from tasks.suite.identity import IdentityError
from tasks.suite.records import RecordError, checksum, compose, read, read_all, write


class Measure(NamedTuple):
    value: float
    n: int
    unit: str
    higher_is_better: bool


def _composed(make_config, value=0.5, **facts):
    return compose(
        make_config(),
        dataset="ETTh1",
        label="ETTh1",
        variant="official",
        status="done",
        sha256={"series": "ab" * 32},
        metrics={"test": {"mse": Measure(value, 3, "", False), "mae": Measure(0.4, 3, "", False)}},
        **facts,
    )


def test_round_trip(make_config, tmp_path):
    record = _composed(make_config, np.float32(0.25), artefacts={"curve": np.arange(3), "bad": [1.0, math.nan]})
    path = write(record, tmp_path)
    assert path == tmp_path / record["run_id"] / "record.json"
    back = read(path)
    assert {k: v for k, v in back.items() if k != "checksum"} == record
    assert back["metrics"]["test"]["mse"] == {"value": 0.25, "n": 3, "unit": "", "higher_is_better": False}
    assert back["artefacts"] == {"curve": [0, 1, 2], "bad": [1.0, None]}
    assert read_all(tmp_path) == ([back], [])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_no_number_is_a_failure(make_config, tmp_path, value):
    record = _composed(make_config, value)
    assert record["status"] == "failed"
    assert "test mse" in record["reason"]
    assert list(record["metrics"]["test"]) == ["mae"]
    assert "NaN" not in write(record, tmp_path).read_text()


def test_a_nan_anywhere_else_is_refused_before_writing(make_config, tmp_path):
    record = _composed(make_config)
    record["wall_seconds"] = math.nan
    with pytest.raises(RecordError, match="wall_seconds is nan"):
        write(record, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_compose_refuses_fields_it_does_not_know(make_config):
    with pytest.raises(TypeError, match="no field speed"):
        _composed(make_config, speed=3)
    cfg = make_config()
    cfg["seed"] = None
    with pytest.raises(IdentityError, match="no seed"):
        compose(cfg, dataset="a", label="a", variant=None, status="unavailable")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(status="finished"), r"\$\.status"),
        (lambda r: r.update(metrics={"val": {}}), "test"),
        (lambda r: r.pop("seed"), "seed"),
        (lambda r: r.update(extra=1), "extra"),
        (lambda r: r["metrics"]["test"]["mse"].pop("n"), "'n'"),
        (lambda r: r.update(status="failed", reason=None), r"\$\.reason"),
        (lambda r: r.update(schema_version=2), "foreign record"),
        (lambda r: r.update(run_id="forecasting-other-00000000"), "does not follow"),
        (lambda r: r.update(config_hash="0" * 64), "does not follow"),
        (lambda r: r.update(model="transformer"), "model is 'transformer'"),
        (lambda r: r.update(profile="paper"), "profile is 'paper'"),
        (lambda r: r["config"].pop("model"), r"no model\.name"),
    ],
)
def test_the_schema_guards_writing(make_config, tmp_path, change, message):
    record = _composed(make_config)
    change(record)
    with pytest.raises(RecordError, match=message):
        write(record, tmp_path)
    assert list(tmp_path.iterdir()) == []


def _edit(path, **changes):
    record = json.loads(path.read_text())
    record.update(changes)
    path.write_text(json.dumps(record))
    return record


def test_every_bad_file_is_reported_by_path(make_record, tmp_path):
    good = write(make_record(), tmp_path)
    paths = {seed: write(make_record(seed=seed), tmp_path) for seed in range(1, 10)}
    paths[1].write_text(paths[1].read_text().replace('"value": 0.4\n', '"value": 0.39\n'))  # a better score, by hand
    paths[2].write_text("{not json")
    paths[3].write_bytes(b"\x1f\x8b\x00")
    paths[4].write_text("[]")
    _edit(paths[5], schema_version=7)
    edited = _edit(paths[6], seed=0)
    edited["checksum"] = checksum(edited)
    paths[6].write_text(json.dumps(edited))  # another seed's result, checksum mended
    edited = _edit(paths[7], label="ETTh2")
    edited["checksum"] = checksum(edited)
    paths[7].write_text(json.dumps(edited))  # a number moved to another dataset, checksum mended
    paths[8].write_text(paths[8].read_text().replace('"value": 0.4\n', '"value": NaN\n'))
    paths[9].unlink()
    paths[9].mkdir()
    copied = tmp_path / "copy of a run" / "record.json"
    copied.parent.mkdir()
    copied.write_bytes(good.read_bytes())

    records, problems = read_all(tmp_path)
    assert [record["run_id"] for record in records] == [good.parent.name]
    reasons = {problem.path: problem.reason for problem in problems}
    assert set(reasons) == {*paths.values(), copied}
    assert "edited by hand" in reasons[paths[1]]
    assert "cannot be read as JSON" in reasons[paths[2]]
    assert "JSON object" in reasons[paths[4]]
    assert "foreign record (schema_version 7)" in reasons[paths[5]]
    assert "does not follow" in reasons[paths[6]]
    assert "does not follow" in reasons[paths[7]]
    assert "NaN" in reasons[paths[8]]
    assert "wrong folder" in reasons[copied]
    assert all(str(problem.path) in str(problem) and problem.fix in str(problem) for problem in problems)


def test_every_truncation_and_bit_flip_is_noticed(make_record, tmp_path):
    path = write(make_record(), tmp_path)
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    accepted = 0
    for cut in random.integers(0, len(whole) - 1, 60):
        path.write_bytes(whole[:cut])
        with pytest.raises(RecordError):
            read(path)
    for position in random.integers(0, len(whole), 200):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << int(random.integers(8))
        path.write_bytes(bytes(flipped))
        try:
            changed = read(path)
        except RecordError:
            continue
        accepted += 1
        assert changed == json.loads(whole)  # white space only
    assert accepted < 40


def test_duplicates_across_workers(make_record, tmp_path):
    for worker in ("a", "b"):
        write(make_record(), tmp_path / worker)
        write(make_record(seed=1, values={"mse": 0.1 if worker == "a" else 0.2}), tmp_path / worker)
    records, problems = read_all(tmp_path / "a", tmp_path / "b")
    assert [record["seed"] for record in records] == [0]  # those that disagree are nobody's result
    assert sum("a duplicate of" in str(problem) for problem in problems) == 1
    assert sum("disagree" in str(problem) for problem in problems) == 2


def test_no_folder_means_no_records(tmp_path):
    assert read_all(tmp_path / "absent") == ([], [])


WRITER = """
import json, sys
from pathlib import Path
from tasks.suite.records import write
record = json.load(open(sys.argv[1]))
print("ready", flush=True)
while True:
    for seconds in range(50):
        record["wall_seconds"] = seconds
        record["artefacts"] = {"curve": [seconds] * 20000}
        write(record, Path(sys.argv[2]))
"""


def test_killed_while_writing_ten_times_nothing_is_corrupt(make_record, tmp_path):
    record = make_record()
    (tmp_path / "source.json").write_text(json.dumps(record))
    runs = tmp_path / "runs"
    path = write(record, runs)
    for kill in range(10):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "source.json"), str(runs)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        with process, process.stdout:
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.02 + 0.013 * kill)
            os.kill(process.pid, signal.SIGKILL)
        assert read(path)["run_id"] == record["run_id"]
        records, problems = read_all(runs)
        assert (len(records), problems) == (1, [])
    write(record, runs)
    assert [entry.name for entry in path.parent.iterdir()] == ["record.json"]  # leftovers are swept


def test_a_folder_that_cannot_be_written(make_record, tmp_path):
    (tmp_path / "runs").write_text("a file where the folder should be")
    with pytest.raises(WriteError, match=r"cannot write .*record\.json"):
        write(make_record(), tmp_path / "runs")


def test_a_full_disk_leaves_the_old_record(make_record, tmp_path, monkeypatch):
    path = write(make_record(), tmp_path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="disk or quota is full"):
        write(make_record(values={"mse": 0.1}), tmp_path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["record.json"]


def test_write_atomic_replaces_and_is_readable_by_others(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    write_atomic(path, b"one")
    write_atomic(path, b"two", durable=False)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o644


def test_environment_holds_no_path_host_or_user(monkeypatch):
    found = env.environment()
    text = json.dumps(found)
    assert set(found) == {"git", "packages", "hardware"}
    assert found["packages"]["numpy"] == np.__version__
    assert found["hardware"]["cores"] == os.cpu_count()
    assert os.uname().nodename not in text
    assert os.getcwd() not in text
    assert os.path.expanduser("~/") not in text


def test_environment_without_git(monkeypatch, tmp_path):
    env._git.cache_clear()
    monkeypatch.setattr(env, "_ROOT", tmp_path)
    assert env.environment()["git"] == {"commit": None, "dirty": None}
    monkeypatch.undo()
    env._git.cache_clear()


def test_dirty_leaves_results_aside(monkeypatch, tmp_path):
    def git(*words):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True)

    git("init")
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "start")
    monkeypatch.setattr(env, "_ROOT", tmp_path)
    states = []
    for name in ("results/new.csv", "code.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("2")
        env._git.cache_clear()
        states.append(env.environment()["git"]["dirty"])
    env._git.cache_clear()
    assert states == [False, True]


def test_records_name_no_place_of_this_machine(make_config, monkeypatch, tmp_path):
    monkeypatch.setenv("AAREN_DATA", str(tmp_path / "data"))
    record = _composed(
        make_config,
        reason=f"{tmp_path}/data/uea/x.ts is empty; {os.path.expanduser('~')}/cache and {os.getcwd()}/conf",
        error=None,
        command=f"python {os.getcwd()}/scripts/train.py",
    )
    assert record["reason"] == "$AAREN_DATA/uea/x.ts is empty; ~/cache and ./conf"
    assert record["command"] == "python ./scripts/train.py"
