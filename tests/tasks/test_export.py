"""Trained steps leave torch: all four families, both models, and nothing stays that is not what torch computes."""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from typer.testing import CliRunner

from aaren.export import export_step
from tasks import export, exportable
from tasks.data import resolve
from tasks.errors import ConfigError
from tasks.export import ExportFailed, export_run
from tasks.exportable import Checked, check
from tasks.job import load, run_job
from tasks.jobconfig import prepare
from tasks.saved import open_run

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("task.model.d_model=8", "task.model.d_ff=8", "task.model.n_heads=2", "task.model.n_layers=1")
# What each family is tried on (all of it made or shipped with the suite), and how many steps show every part of it.
FAMILIES = {
    "forecasting": (["dataset=known/seasonal", "horizon=12"], 96 + 12 + 20),
    "classification": (["dataset=JapaneseVowels"], 40),
    "events": (["dataset=known/hawkes-marked", "task.data.n_sequences=40"], 60),
    "rl": (["dataset=hopper-medium", "dataset.variant=surrogate", "task.data.context=6"], 60),
}


def built(job, *overrides):
    """A task with the weights it begins with, and its data: an export does not care how good they are."""
    cfg = prepare(job(*overrides))
    data, task = load(cfg, resolve(cfg["dataset"]["name"], cfg["dataset"]["variant"]))
    return task.eval(), data


@pytest.mark.parametrize("model", ["aaren", "transformer"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_familys_step_follows_its_own_stream(job, family, model):
    overrides, steps = FAMILIES[family]
    task, data = built(job, *overrides, *SMALL, f"model={model}")
    found = importlib.import_module(f"tasks.{family}.export").exportable(task, data)
    checked = check(found, export_step(found.step), steps)
    assert checked.compared >= 20 or family == "forecasting"
    assert checked.compared >= 12, "the forecast was not reached"
    assert checked.passed, checked
    json.dumps({**found.step.describe(), "scaling": found.scaling}, allow_nan=False)
    ends = model == "transformer" or family == "classification"  # the flattened head ends with the series
    assert (found.step.capacity is not None) == ends


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder of runs with one that has learned and one that had nothing to learn."""
    runs = tmp_path_factory.mktemp("runs")
    fixed = [f"runs_dir={runs}", "logger=none", "progress=none", "profile=smoke", "dataset=JapaneseVowels"]
    names = []
    for model in ("aaren", "majority"):
        with initialize_config_dir(version_base="1.3", config_dir=str(ROOT / "conf")):
            cfg = OmegaConf.to_container(compose("train", overrides=[*fixed, f"model={model}"]), resolve=True)
        assert isinstance(cfg, dict)
        names.append(run_job({str(key): value for key, value in cfg.items()})["run_id"])
    return runs, *names


@pytest.fixture(scope="module")
def app():
    spec = importlib.util.spec_from_file_location("export_script", ROOT / "scripts" / "export.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.app


def call(app, runs, *words):
    return CliRunner().invoke(app, [f"runs_dir={runs}", *words])


HOST = """
import sys
sys.modules["torch"] = sys.modules["aaren"] = None
sys.argv = ["onnx_host.py", {folder!r}]
import runpy
runpy.run_path({script!r}, run_name="__main__")
"""


def test_a_run_is_exported_beside_itself_and_runs_without_torch(trained, app):
    runs, learned, _ = trained
    done = call(app, runs, f"run={learned}", "steps=30")
    assert done.exit_code == 0, done.output
    assert "30 steps beside torch, largest difference" in done.output
    assert "onnxruntime" in done.output
    folder = runs / learned / "export"
    about = json.loads((folder / "step.json").read_text())
    assert sorted(path.name for path in folder.iterdir()) == ["step.json", "step.onnx"]
    assert about["bytes"] == (folder / "step.onnx").stat().st_size
    assert about["check"]["largest_difference"] <= about["check"]["bar"] == 1e-5
    assert f"{about['bytes']:,} bytes" in done.output

    saved = open_run(learned, runs)
    spec = importlib.util.spec_from_file_location("onnx_host", ROOT / "scripts" / "onnx_host.py")
    assert spec
    assert spec.loader
    host = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(host)
    batch = saved.data.batch("test", np.array([0]))
    stream = host.Stream(folder)
    for again in range(2):
        for x in batch.x[0, : int(batch.lengths[0])]:
            logits = stream.step(x=x[None].numpy())["logits"]
        np.testing.assert_allclose(logits, saved.task.network(batch.x, batch.lengths).detach(), atol=1e-5)
        stream.start()
        assert not again or stream.state["position"] == 0
    script = HOST.format(folder=str(folder), script=str(ROOT / "scripts" / "onnx_host.py"))
    text = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=200
    ).stdout
    assert "us a step" in text
    assert "logits" in text


def test_an_export_that_is_not_torchs_leaves_nothing(trained, monkeypatch):
    runs, learned, _ = trained
    folder = runs / learned / "export"
    folder.mkdir(exist_ok=True)
    (folder / "step.onnx").write_bytes(b"of an earlier day")
    wrong = Checked(30, 30, 1e-3, "logits", 1e-4, 1e-4)
    monkeypatch.setattr(export, "export_step", lambda step: b"")
    monkeypatch.setattr(export, "check", lambda *_: wrong)
    with pytest.raises(ExportFailed, match=r"logits differs from torch's by 0\.001 .* nothing is written"):
        export_run(learned, runs)
    assert not list(folder.iterdir())
    assert not Checked(30, 0, 0.0, "", 1e-4, 1e-4).passed, "nothing compared is nothing shown"


def test_differences_are_absolute_below_one_and_relative_above():
    difference = exportable._difference
    assert difference(np.array([0.5 + 1e-6]), np.array([0.5])) == pytest.approx(1e-6)
    assert difference(np.array([1000.0 + 1e-3]), np.array([1000.0])) == pytest.approx(1e-6)
    assert difference(np.array([np.nan]), np.array([1.0])) == np.inf
    assert difference(np.array([[1.0]]), np.array([1.0])) == np.inf


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run={near}"], 1, "did you mean {learned}"),
        (["run={trivial}"], 1, "majority is a model without training"),
        (["rum={learned}"], 2, "did you mean run? words are run=, runs_dir=, steps=, plugin="),
        (["run={learned}", "steps=0"], 2, "steps='0': a whole number, at least 1"),
        (["steps=3"], 2, "say which: run=<run_id>"),
        (["run="], 2, "give it once, with a value"),
    ],
)
def test_words_that_cannot_be_followed_are_answered(trained, app, words, code, said):
    runs, learned, trivial = trained
    names = {"learned": learned, "trivial": trivial, "near": learned[:-3]}
    done = call(app, runs, *(word.format(**names) for word in words))
    assert done.exit_code == code
    assert said.format(**names) in done.output


def test_weights_that_are_missing_damaged_or_of_another_run_are_not_exported(trained, tmp_path):
    runs, learned, _ = trained
    shutil.copytree(runs / learned, tmp_path / learned)
    weights = tmp_path / learned / "checkpoints" / "best.ckpt"
    held = torch.load(weights, weights_only=True)
    with pytest.raises(ConfigError, match="there are no runs"):
        open_run(learned, tmp_path / "elsewhere")
    held["state_dict"]["network.head.bias"] += 1
    torch.save(held, weights)
    with pytest.raises(ConfigError, match="does not hold the weights that the record was made with"):
        open_run(learned, tmp_path)
    del held["state_dict"]["network.head.bias"]
    torch.save(held, weights)
    with pytest.raises(ConfigError, match="does not fit the model of its record"):
        open_run(learned, tmp_path)
    weights.write_bytes(b"no archive")
    with pytest.raises(ConfigError, match="cannot be read as weights"):
        open_run(learned, tmp_path)
    weights.unlink()
    with pytest.raises(ConfigError, match="its weights are not there"):
        open_run(learned, tmp_path)
