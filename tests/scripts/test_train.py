"""The command line as a user meets it: one job, a sweep, wrong names, and a Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tasks.errors import ConfigError, UnknownDataset
from tasks.overrides import check_overrides, options
from tasks.suite import records
from tasks.sweeper import check_model

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
QUIET = ("profile=smoke", "logger=none", "progress=none")


def train(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, **options)


def test_names_ignore_case_and_lists_are_checked_name_by_name():
    assert check_overrides(["dataset=etth1,ECL", "model=AAREN"], CONF) == ["dataset=ETTh1,ECL", "model=aaren"]
    assert check_overrides(["-m", "dataset=glob(*)", "+task.x=1", "hydra/launcher=joblib"], CONF) == [
        "-m",
        "dataset=glob(*)",
        "+task.x=1",
        "hydra/launcher=joblib",
    ]
    assert check_overrides(["dataset=Known/Seasonal"], CONF) == ["dataset=known/seasonal"]
    # as D4RL names them
    assert check_overrides(["dataset=Hopper-medium-v2,ant-medium"], CONF) == ["dataset=hopper-medium,ant-medium"]


@pytest.mark.parametrize(
    ("argument", "error", "words"),
    [
        ("dataset=ETTh7", UnknownDataset, "did you mean ETTh"),
        ("dataset=ETTh1,Wether", UnknownDataset, "did you mean Weather"),
        ("model=arren", ConfigError, "did you mean aaren"),
        ("profile=papr", ConfigError, "did you mean paper"),
        ("task.optim.lrr=1", ConfigError, "did you mean task.optim.lr"),
        ("sede=3", ConfigError, "did you mean seed"),
    ],
)
def test_an_unknown_name_is_answered_with_its_near_misses(argument, error, words):
    with pytest.raises(error, match=words):
        check_overrides([argument], CONF)


def test_every_option_of_the_shipped_configs_is_known_to_the_check():
    assert check_overrides(
        ["task.model.d_model=8", "task.budget.max_steps=3", "logger.mode=offline", "threads=2"], CONF
    )


def test_a_sweep_refuses_a_model_its_family_lacks_before_it_starts():
    check_model(["dataset=ETTh1", "model=repeat_last"], CONF)
    check_model(["dataset=JapaneseVowels", "model=aaren"], CONF)
    check_model(["dataset=Sin", "model=truth"], CONF)
    with pytest.raises(ConfigError, match="JapaneseVowels is classification"):
        check_model(["dataset=JapaneseVowels", "model=repeat_last"], CONF)


def test_the_38_datasets_are_flat_files_and_the_rest_lies_in_folders():
    from tasks.suite.layout import FAMILY_OF

    flat = [name for name in options(CONF, "dataset") if "/" not in name]
    assert len(flat) == 38
    assert set(flat) == set(FAMILY_OF)
    assert set(FAMILY_OF.values()) == {path.stem for path in (CONF / "task").glob("*.yaml")}


def test_one_job_and_its_wrong_arguments(tmp_path):
    done = train("dataset=japanesevowels", f"runs_dir={tmp_path}", *QUIET)
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stderr
    (path,) = tmp_path.glob("*/record.json")
    record = records.read(path)
    assert record["command"].startswith("python scripts/train.py dataset=JapaneseVowels")
    assert record["selection"]["metric"]
    assert str(tmp_path) not in path.read_text(), "a record tells no path of a machine"
    wrong = train("dataset=JapaneseVowel")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("error: dataset='JapaneseVowel': no such dataset; did you mean JapaneseVowels")
    assert "Traceback" not in wrong.stderr
    wrong = train("dataset=JapaneseVowels", "task.optim.lr=-1", f"runs_dir={tmp_path}", *QUIET)
    assert wrong.returncode == 1
    assert "Traceback" not in wrong.stderr
    assert "task.optim.lr" in wrong.stderr


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_sweep_goes_on_past_a_failure_and_says_so(tmp_path, launcher):
    swept = train(
        "-m",
        "dataset=JapaneseVowels,PEMS-SF",
        "task.optim.lr=1e-3,-1",
        "seed=0,1",
        f"runs_dir={tmp_path}",
        f"hydra/launcher={launcher}",
        *QUIET,
        env=os.environ | {"AAREN_DATA": str(tmp_path / "no data")},
    )
    assert swept.returncode == 1
    found = records.read_all(tmp_path)
    assert not found.problems
    statuses = [(r["dataset"], r["status"]) for r in found.records]
    assert statuses.count(("JapaneseVowels", "done")) == 2, swept.stderr
    assert statuses.count(("JapaneseVowels", "failed")) == 2
    assert statuses.count(("PEMS-SF", "unavailable")) == 4
    assert "2 of 8 jobs failed" in swept.stderr
    assert "task.optim.lr" in swept.stderr


def test_ctrl_c_leaves_a_record_and_the_same_command_goes_on(tmp_path):
    arguments = ["dataset=JapaneseVowels", "task.budget.max_steps=150", "task.budget.eval_every=10"]
    arguments += [f"runs_dir={tmp_path}", *QUIET]
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *arguments]
    # A shell's background jobs ignore SIGINT, and so would their children.
    heed = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*/checkpoints/last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    (path,) = tmp_path.glob("*/record.json")
    record = records.read(path)
    assert record["status"] == "failed"
    assert "interrupted" in record["reason"]
    assert train(*arguments).returncode == 0
    assert records.read(path)["status"] == "done"


def test_wandb_offline_keeps_one_run_a_job(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "WANDB_API_KEY"}
    environment |= {"NETRC": str(tmp_path / "none"), "WANDB_MODE": "offline"}
    arguments = ["-m", "dataset=JapaneseVowels", "seed=0,1,2", f"runs_dir={tmp_path / 'runs'}"]
    swept = train(*arguments, "profile=smoke", "progress=none", "logger=wandb", env=environment)
    assert swept.returncode == 0, swept.stderr
    offline = list((tmp_path / "wandb").rglob("*.wandb"))
    names = {path.stem.removeprefix("run-") for path in offline}
    assert len(offline) == 3
    assert names == {path.parent.name for path in (tmp_path / "runs").glob("*/record.json")}


def test_help_is_quick_and_needs_no_torch(tmp_path):
    blocker = tmp_path / "torch.py"
    blocker.write_text("raise ImportError('torch is blocked')")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    assert train("--help", env=environment).returncode == 0
    shown = train("--cfg", "job", "dataset=ETTh1", env=environment)
    assert shown.returncode == 0, shown.stderr
    assert "d_model" in shown.stdout


def test_a_job_list_is_run_as_it_stands(tmp_path):
    listed = tmp_path / "jobs.json"
    listed.write_text(json.dumps([["dataset=JapaneseVowels", "model=majority"], ["dataset=JapaneseVowels", "seed=4"]]))
    swept = train("-m", f"hydra.sweeper.jobs={listed}", f"runs_dir={tmp_path / 'runs'}", *QUIET)
    assert swept.returncode == 0, swept.stderr
    found = records.read_all(tmp_path / "runs").records
    assert {(r["model"], r["seed"]) for r in found} == {("majority", 0), ("aaren", 4)}


def test_an_experiment_is_a_sweep_that_the_command_line_narrows(tmp_path):
    narrowed = ["dataset=JapaneseVowels", "seed=0", f"runs_dir={tmp_path}", *QUIET]
    swept = train("experiment=table4_classification", *narrowed)
    assert swept.returncode == 0, swept.stderr
    found = records.read_all(tmp_path).records
    assert {(r["dataset"], r["model"], r["profile"]) for r in found} == {
        ("JapaneseVowels", "aaren", "smoke"),
        ("JapaneseVowels", "transformer", "smoke"),
    }
