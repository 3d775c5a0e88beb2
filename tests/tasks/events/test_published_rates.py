"""Trivial rules on the real sets that are ready: the rates measured independently (protocol, section 4.1)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tasks.data import DatasetUnavailable, resolve
from tasks.events import build_task, load_data

CONF = Path(__file__).resolve().parents[3] / "conf"
RATES = {
    ("Wiki", "repeat_mark"): {"accuracy": 0.786, "nll_time": -3.375, "rmse": 0.434},
    ("Wiki", "most_common_mark"): {"accuracy": 0.0},
    ("StackOverflow", "repeat_mark"): {"accuracy": 0.306},
    ("StackOverflow", "most_common_mark"): {"accuracy": 0.429, "nll_time": 0.906},
    ("StackOverflow", "markov"): {"accuracy": 0.445, "nll_mark": 1.721},
    ("MOOC", "repeat_mark"): {"accuracy": 0.176, "nll_time": -5.046},
    ("MOOC", "markov"): {"accuracy": 0.291},
    ("Sin", "truth"): {"nll": 0.679, "excess_nll": 0.0},
    ("known/poisson", "truth"): {"nll": 1.0},
}


def _ready(name):
    try:
        return bool(resolve(name))
    except DatasetUnavailable:
        return False


@pytest.mark.parametrize(("name", "rule"), [case for case in RATES if _ready(case[0])])
def test_rule_has_its_rate(name, rule, tmp_path, monkeypatch):
    monkeypatch.setenv("AAREN_CACHE", str(tmp_path))
    with initialize_config_dir(str(CONF), version_base=None):
        overrides = [f"dataset={name}", f"model={rule}", "profile=quick"]
        cfg = OmegaConf.to_container(compose("train", overrides=overrides), resolve=True)
    data = load_data(cfg, resolve(name))
    task = build_task(cfg, data)
    for rows in data.eval_batches("test"):
        task.update_metrics("test", data.batch("test", rows))
    found = task.compute_metrics("test")
    for metric, value in RATES[name, rule].items():
        assert found[metric].value == pytest.approx(value, abs=0.01), metric
