"""A job's life: done once, and never silent about a failure; what kills and interrupts it is in tests/faults."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from tasks.errors import ConfigError, UnknownDataset
from tasks.job import run_job
from tasks.suite import records
from tasks.suite.locks import RunBusy, RunLock, bury, progress
from tasks.task import TrainingDiverged

# JapaneseVowels comes with sktime: real data wherever the suite is installed.
LONGER = ("dataset=JapaneseVowels", "task.budget.max_steps=12", "task.budget.eval_every=6")


def same(one: dict, other: dict) -> bool:
    return json.dumps(records.outcome(one), sort_keys=True) == json.dumps(records.outcome(other), sort_keys=True)


def test_a_done_job_is_not_done_again(job):
    cfg = job("dataset=JapaneseVowels")
    first = run_job(cfg)
    assert run_job(cfg)["finished"] == first["finished"]
    assert not list(Path(cfg["runs_dir"]).glob("*/checkpoints/last.ckpt")), "a done job needs no way to resume"


def test_a_diverging_loss_is_a_failed_record_with_its_step(job, monkeypatch):
    from tasks.classification.task import ClassificationTask

    original, calls = ClassificationTask.training_loss, []

    def nan_at_the_fourth_step(self, batch):
        calls.append(1)
        loss = original(self, batch)
        return loss * torch.nan if len(calls) == 4 else loss

    monkeypatch.setattr(ClassificationTask, "training_loss", nan_at_the_fourth_step)
    cfg = job("dataset=JapaneseVowels")
    with pytest.raises(TrainingDiverged, match=r"nan at step 3 \(batch 1"):
        run_job(cfg)
    (path,) = Path(cfg["runs_dir"]).glob("*/record.json")
    record = records.read(path)
    assert record["status"] == "failed"
    assert record["error"]["step"] == 3
    assert "batch 1" in record["reason"]
    assert list(path.parent.glob("checkpoints/last.ckpt")), "the checkpoint is kept"


def test_a_dead_job_is_buried_as_failed_with_signal_and_step(job):
    cfg = job(*LONGER, "task.budget.max_steps=40000")
    process = multiprocessing.get_context("fork").Process(target=run_job, args=(cfg,))
    process.start()
    deadline = time.monotonic() + 60
    while not any(running.step > 0 for running in progress(Path(cfg["runs_dir"]))):
        assert time.monotonic() < deadline, "no heartbeat came"
        time.sleep(0.05)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    (name,) = bury(Path(cfg["runs_dir"]), "SIGKILL")
    record = records.read(Path(cfg["runs_dir"]) / name / "record.json")
    assert record["status"] == "failed"
    assert "SIGKILL" in record["reason"]
    assert record["error"]["step"] > 0


def test_an_unavailable_dataset_says_how_to_get_it_and_is_no_failure(job, monkeypatch, tmp_path):
    monkeypatch.setenv("AAREN_DATA", str(tmp_path / "empty"))
    record = run_job(job("dataset=PEMS-SF"))
    assert record["status"] == "unavailable"
    assert "scripts/data.py get PEMS-SF" in record["fix"]


def test_two_processes_do_not_share_a_job(job):
    cfg = job("dataset=JapaneseVowels")
    name = run_job(cfg)["run_id"]
    with RunLock(Path(cfg["runs_dir"]), name), pytest.raises(RunBusy, match=str(os.getpid())):
        run_job(cfg)


def test_a_damaged_checkpoint_is_set_aside_and_training_starts_anew(job, caplog):
    cfg = job(*LONGER)
    whole = run_job(cfg)
    again = cfg | {"runs_dir": cfg["runs_dir"] + "-again"}
    folder = Path(again["runs_dir"]) / whole["run_id"] / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "last.ckpt").write_bytes(b"PK\x03\x04 not a checkpoint")
    caplog.set_level("WARNING")
    assert same(whole, run_job(again))
    assert "cannot be read" in caplog.text


def test_a_malicious_checkpoint_is_not_run(job, tmp_path):
    """weights_only=True: a pickle payload in a checkpoint never executes."""

    class Payload:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'executed'}",))

    cfg = job("dataset=JapaneseVowels")
    name = run_job(cfg)["run_id"]
    again = cfg | {"runs_dir": cfg["runs_dir"] + "-again"}
    folder = Path(again["runs_dir"]) / name / "checkpoints"
    folder.mkdir(parents=True)
    torch.save({"state_dict": Payload(), "stopped": False}, folder / "last.ckpt")
    assert run_job(again)["status"] == "done"
    assert not (tmp_path / "executed").exists()


def test_a_read_only_results_folder_is_a_clear_error(job, tmp_path):
    cfg = job("dataset=JapaneseVowels")
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    with pytest.raises(OSError, match="blocked") as error:
        run_job(cfg | {"runs_dir": str(blocked / "runs")})
    assert "cannot write" in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=repeat_last"], "model='repeat_last'.*classification has no such model"),
        (["protocol=fair"], "protocol='fair'"),
        (["horizon=96"], "has no horizons"),
        (["seed=-1"], "seed=-1"),
        (["fold=1"], "no folds"),
        (["device=tpu"], "device='tpu'"),
        (["task.model.n_heads=3"], "task.model.n_heads=3"),
        (["task.optim.name=sgdd"], "task.optim.name='sgdd'"),
        (["task.optim.lr=0"], "task.optim.lr"),
        (["task.budget.max_steps=0"], "task.budget.max_steps=0"),
        (["+task.budget.max_epochs=3"], "either max_steps or max_epochs"),
        (["task.data.batch_size=0"], "task.data.batch_size=0"),
        (["model=custom", "model.plugin=missing.py", "model.attention=x"], "model.plugin"),
        (["progress=loud"], "progress='loud'"),
    ],
)
def test_bad_options_are_named(job, overrides, words):
    with pytest.raises(ConfigError, match=words):
        run_job(job("dataset=JapaneseVowels", *overrides))


def test_unknown_dataset_in_a_config_is_named(job):
    cfg = job("dataset=JapaneseVowels")
    cfg["dataset"]["name"] = "JapanesVowels"
    with pytest.raises(UnknownDataset, match="did you mean JapaneseVowels"):
        run_job(cfg)


PLUGIN = '''
from aaren import CausalMean, register_attention


@register_attention("renamed_mean")
class RenamedMean(CausalMean):
    """A mean under another name."""
'''


def test_a_users_own_backbone_runs_from_the_command_line(job, tmp_path):
    plugin = tmp_path / "my_backbone.py"
    plugin.write_text(PLUGIN)
    cfg = job("dataset=JapaneseVowels", "model=custom", f"model.plugin={plugin}", "model.attention=renamed_mean")
    record = run_job(cfg)
    assert record["status"] == "done"
    assert record["model"] == "renamed_mean"
    plugin.write_text(PLUGIN + "\n# another version of the code is another job\n")
    from tasks.suite.identity import run_id

    assert run_id(cfg, "JapaneseVowels", record["data"]["sha256"]) != record["run_id"]
    broken = tmp_path / "broken_backbone.py"
    broken.write_text("raise RuntimeError('broken')")
    with pytest.raises(ConfigError, match="raised RuntimeError: broken"):
        run_job(cfg | {"model": cfg["model"] | {"plugin": str(broken)}})
