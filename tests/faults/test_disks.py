"""Disks that are full, read-only or gone in the middle of a job: a clear error, and what was there stays as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks import cache
from tasks.classification.task import ClassificationTask
from tasks.data import resolve
from tasks.errors import DatasetError
from tasks.job import run_job
from tasks.suite import records
from tasks.suite.atomic import WriteError

FULL = "the disk or quota is full: free some space and run the same command again"


def at_step(monkeypatch, step, act):
    """`act` before optimiser step `step`, once."""
    original, done = ClassificationTask.training_loss, []

    def acting(self, batch):
        if self.global_step == step and not done:
            done.append(act())
        return original(self, batch)

    monkeypatch.setattr(ClassificationTask, "training_loss", acting)


def test_a_full_disk_stops_a_job_with_its_checkpoint_intact_and_it_goes_on_when_there_is_room(
    job, disk, monkeypatch, tmp_path
):
    longer = ("task.budget.max_steps=6", "task.budget.eval_every=2")
    whole = run_job(job(*longer))
    cfg = job(*longer) | {"runs_dir": str(disk.path / "runs")}
    kept = []

    def fill():
        kept.extend(path.read_bytes() for path in disk.path.rglob("last.ckpt"))
        disk.fill()

    at_step(monkeypatch, 3, fill)
    with pytest.raises(WriteError, match=FULL):
        run_job(cfg)
    (checkpoint,) = disk.path.rglob("last.ckpt")
    assert [checkpoint.read_bytes()] == kept
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 2
    assert not [path for path in disk.path.rglob("*.tmp") if path.stat().st_size]
    disk.free()
    assert records.outcome(run_job(cfg)) == records.outcome(whole)


def test_a_disk_that_turns_read_only_is_named(job, disk, monkeypatch):
    at_step(monkeypatch, 1, disk.read_only)
    with pytest.raises(WriteError, match=r"cannot write .*disk.*the folder is read-only: choose one that can be"):
        run_job(job() | {"runs_dir": str(disk.path / "runs")})


def test_a_read_only_results_folder_stops_a_job_before_it_works(job, disk, monkeypatch):
    disk.read_only()
    monkeypatch.setattr(ClassificationTask, "training_loss", None)
    with pytest.raises(WriteError, match=r"cannot write .*disk.*the folder is read-only"):
        run_job(job() | {"runs_dir": str(disk.path / "runs")})


@pytest.mark.parametrize("fault", ["fill", "read_only"])
def test_a_cache_that_cannot_be_written_costs_a_parse_and_nothing_else(job, disk, monkeypatch, caplog, fault):
    monkeypatch.setenv("AAREN_CACHE", str(disk.path))
    getattr(disk, fault)()
    caplog.set_level("WARNING")
    assert run_job(job("model=majority"))["status"] == "done"
    assert "going on without the cache" in caplog.text


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data root with one small real set (a copy of one that comes with the suite), and an empty cache."""
    folder = tmp_path / "data"
    source = resolve("JapaneseVowels")
    monkeypatch.setenv("AAREN_DATA", str(folder))
    monkeypatch.setenv("AAREN_CACHE", str(tmp_path / "cache"))
    found = {role: folder / "UEA" / path.name for role, path in source.files.items()}
    for role, path in found.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.files[role], path)
    from dataclasses import replace

    from tasks import job as module

    def resolved(*_):
        if not folder.exists():
            return resolve("PEMS-SF")  # as any set of the root: nowhere
        return replace(source, files=found, source="data root")

    monkeypatch.setattr(module, "resolve", resolved)
    return folder


def test_a_data_root_that_vanishes_while_training_changes_nothing(job, root, monkeypatch):
    whole = run_job(job())
    at_step(monkeypatch, 1, lambda: shutil.rmtree(root))
    assert records.outcome(run_job(job() | {"force": True})) == records.outcome(whole)
    assert run_job(job())["status"] == "unavailable", "the next job of the sweep says how to get it"


def test_a_data_root_that_vanishes_before_it_is_read_is_an_error_with_the_file(job, root, monkeypatch, tmp_path):
    read = cache.verified

    def vanish(resolved):
        shutil.rmtree(root)
        return read(resolved)

    monkeypatch.setattr(cache, "verified", vanish)
    with pytest.raises(DatasetError, match="cannot be read"):
        run_job(job())
    (path,) = Path(tmp_path / "runs").glob("*/record.json")
    record = records.read(path)
    assert (record["status"], record["error"]["type"]) == ("failed", "DatasetError")
    assert record["fix"]


def test_a_full_cache_disk_never_leaves_a_short_array(disk, monkeypatch):
    """Disk full in the middle of the write: the file is whole or not there."""
    from tasks.suite.atomic import write_atomic

    path = disk.path / "parsed" / "set.npz"
    write_atomic(path, b"old")
    disk.fill()
    with pytest.raises(WriteError, match=FULL):
        write_atomic(path, np.random.default_rng(0).bytes(1 << 20))
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in path.parent.iterdir()] == ["set.npz"]
