"""Secrets of the environment, of the git remote and of addresses, and the machine's places: in nothing a job leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from tasks.portable import PortableCheckpoint
from tasks.suite.sanitise import scrub

ROOT = Path(__file__).resolve().parents[2]
SECRETS = {
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "HF_TOKEN": "hf_secretsecretsecret",
    "AWS_SECRET_ACCESS_KEY": "aws/secret/secret",
    "DATABASE_PASSWORD": "correct-horse-battery",
    "SOME_CREDENTIAL": "credential-credential",
    "HTTPS_PROXY": "http://proxyuser:proxy-pass-word@127.0.0.1:9",
    # a remote with a login, without touching the repository's own
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "remote.origin.url",
    "GIT_CONFIG_VALUE_0": "https://gituser:git-pass-word@127.0.0.1/aaren.git",
}
WORDS = (*list(SECRETS.values())[:5], "proxy-pass-word", "git-pass-word", "gituser", "proxyuser")


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _holding(paths: list[Path], words: tuple[str, ...]) -> list[tuple[str, str]]:
    contents = ((path, path.read_bytes()) for path in paths)
    return [(path.name, word) for path, content in contents for word in words if word.encode() in content]


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """What a job and the report of it leave, with W&B offline, in a home and a working folder of their own."""
    base = tmp_path_factory.mktemp("somewhere")
    home, data, runs = base / "homefolder", base / "datafolder", base / "out" / "runs"
    for folder in (home, data):
        folder.mkdir()
    environment = os.environ | SECRETS | {"AAREN_DATA": str(data), "WANDB_MODE": "offline", "NETRC": str(base / "none")}
    environment |= {"HOME": str(home), "AAREN_CACHE": str(base / "cache"), "MPLCONFIGDIR": str(base / "mpl")}
    options = [f"runs_dir={runs}", "profile=smoke", "progress=none", "logger=wandb", "logger.mode=offline"]
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), "dataset=known/seasonal", "model=aaren", *options]
    swept = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment, cwd=home)
    assert swept.returncode == 0, swept.stderr
    tables = [
        sys.executable,
        str(ROOT / "scripts" / "report.py"),
        "--runs",
        str(runs),
        "--out",
        str(base / "out/a.html"),
    ]
    tables += ["--tables", str(base / "out" / "tables")]
    made = subprocess.run(tables, capture_output=True, text=True, timeout=280, env=environment, cwd=home)
    assert made.returncode == 0, made.stderr
    said = swept.stdout + swept.stderr + made.stdout + made.stderr
    return base, _files(base / "out") + _files(home), said


def test_no_file_of_a_job_holds_a_secret_or_a_path(left):
    base, paths, said = left
    kinds = {path.suffix for path in paths}
    assert {".json", ".ckpt", ".wandb", ".html", ".md", ".csv", ".tex"} <= kinds  # the search has what to search
    assert _holding(paths, WORDS) == []
    assert not [word for word in WORDS if word in said]
    published = [path for path in paths if path.suffix in (".json", ".ckpt", ".html", ".md", ".csv", ".tex")]
    places = (str(base), str(ROOT), str(Path.home()) + "/")
    assert _holding(published, places) == []


def test_messages_are_cleaned(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SHORT_KEY", "on")  # no secret, and a word
    text = f"401 for https://me:my-pass-word@host/x?k={SECRETS['WANDB_API_KEY']}: {SECRETS['HF_TOKEN']} on hand"
    cleaned = scrub(text)
    assert cleaned == "401 for https://***@host/x?k=$WANDB_API_KEY: $HF_TOKEN on hand"
    assert scrub("https://host/path:1@2") == "https://host/path:1@2"


def test_a_moved_run_keeps_its_best(tmp_path):
    """Lightning's own state names absolute paths, and drops the best score where they have changed."""
    states = {}
    for kind in (ModelCheckpoint, PortableCheckpoint):
        callback = kind(tmp_path / "here", "best", monitor="val/mse", mode="min")
        callback.best_model_path = callback.kth_best_model_path = str(tmp_path / "here" / "best.ckpt")
        callback.best_model_score = callback.kth_value = torch.tensor(0.25)
        callback.best_k_models = {callback.best_model_path: torch.tensor(0.25)}
        states[kind.__name__] = callback.state_dict()
        key = callback.state_key
    assert str(tmp_path) not in str(states["PortableCheckpoint"])
    assert str(tmp_path) in str(states["ModelCheckpoint"])
    for state in states.values():  # an older checkpoint is taken up, too
        moved = PortableCheckpoint(tmp_path / "there", "best", monitor="val/mse", mode="min")
        assert moved.state_key == key == ModelCheckpoint(tmp_path, "best", monitor="val/mse", mode="min").state_key
        moved.load_state_dict(dict(state))
        there = str(tmp_path / "there" / "best.ckpt")
        assert moved.best_model_path == moved.kth_best_model_path == there
        assert moved.best_k_models == {there: torch.tensor(0.25)}
        assert moved.best_model_score == 0.25
