"""Jobs of the family from their shipped configs: every set and model composes, and a smoke job leaves its scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tasks.data import resolve
from tasks.errors import ConfigError
from tasks.events import build_task, load_data

CONF = Path(__file__).resolve().parents[3] / "conf"
MAIN = ("MIMIC", "Wiki", "Reddit", "MOOC", "StackOverflow", "Sin", "Uber", "Taxi")
KNOWN = ("known/poisson", "known/renewal", "known/self-correcting", "known/hawkes", "known/hawkes-marked")
RULES = ("repeat_mark", "most_common_mark", "markov", "static_lognormal", "truth")


def _compose(*overrides):
    with initialize_config_dir(str(CONF), version_base=None):
        return OmegaConf.to_container(compose("train", overrides=list(overrides)), resolve=True)


@pytest.mark.parametrize("profile", ["smoke", "quick", "paper"])
@pytest.mark.parametrize("name", [*MAIN, *KNOWN])
def test_every_set_composes_in_every_profile(name, profile):
    cfg = _compose(f"dataset={name}", f"profile={profile}")
    assert cfg["dataset"]["name"] == name
    assert cfg["task"]["family"] == "events"
    assert (cfg["task"]["budget"]["max_steps"] is None) != (cfg["task"]["budget"]["max_epochs"] is None)
    assert set(cfg["task"]["trivial_models"]) <= set(RULES)


def _run(cfg, data):
    task = build_task(cfg, data)
    if cfg["model"]["attention"]:
        task.training_loss(data.batch("train", data.train_batches(0)[0])).backward()
    task.eval()
    with torch.no_grad():
        for rows in data.eval_batches("test"):
            task.update_metrics("test", data.batch("test", rows))
    measures = task.compute_metrics("test")
    return task, measures, task.artefacts(data)


@pytest.mark.parametrize("name", ["MIMIC", "known/hawkes-marked", "Sin"])
def test_generated_sets_run_with_every_model(name):
    cfg = _compose(f"dataset={name}", "profile=smoke", "dataset.variant=synthetic")
    cfg["task"]["data"]["n_sequences"] = 40
    data = load_data(cfg, resolve(name, "synthetic"))
    for model in ["aaren", "transformer", *cfg["task"]["trivial_models"]]:
        cfg["model"] = _compose(f"model={model}")["model"]
        task, measures, extras = _run(cfg, data)
        n = measures["nll"].n
        assert n == len(data.splits["test"].times) - data.sizes["test"]
        assert all(np.isfinite(m.value) for m in measures.values()), model
        assert ("accuracy" in measures) == (data.n_marks > 1)
        assert measures["nll"].unit == f"nats/event ({cfg['task']['data']['unit']})"
        assert extras["calibration"]["n"] == n
        assert sum(extras["by_sequence"]["predicted"]) == n
        assert sum(extras["by_sequence"]["nll"]) / n == pytest.approx(measures["nll"].value, abs=1e-5)
        assert task.selection.metric == "nll"


def test_paper_compat_keeps_the_base_codes_books():
    cfg = _compose("dataset=MIMIC", "profile=smoke", "protocol=paper_compat", "task.optim.weight_decay=0.5")
    data = load_data(cfg, resolve("MIMIC", "synthetic"))
    task = build_task(cfg, data)
    assert (task.selection.split, task.selection.metric) == ("val", "base_rmse")
    assert task.optim["weight_decay"] == 0
    assert task.model.gap_head.plain
    assert task.model.gap_embedding is None
    batch = data.batch("train", np.arange(8))
    task.eval()
    loss = task.training_loss(batch)
    with torch.no_grad():
        scores = task.scores["val"]
        scores.add(batch, task.answer(batch))
        found = scores.measures()["base_nll"]
    penalty = sum(float(p.detach().square().sum()) for p in task.parameters())
    assert float(loss.detach()) == pytest.approx(found.value * found.n + 0.25 * penalty, rel=1e-4)
    with pytest.raises(ConfigError, match="protocol"):
        load_data(cfg | {"protocol": "test"}, resolve("MIMIC", "synthetic"))
    with pytest.raises(ConfigError, match="horizon"):
        load_data(cfg | {"horizon": 3}, resolve("MIMIC", "synthetic"))


def test_a_generated_set_names_its_generators():
    cfg = _compose("dataset=Sin", "profile=smoke", "task.data.generator=sin-fixed-n", "task.data.n_sequences=20")
    data = load_data(cfg, resolve("Sin"))
    lengths = np.concatenate([part.lengths for part in data.splits.values()])
    assert lengths.min() >= 20
    cfg["task"]["data"]["generator"] = "cosine"
    with pytest.raises(ConfigError, match=r"task\.data\.generator='cosine'.*sin-poisson, sin-fixed-n"):
        load_data(cfg, resolve("Sin"))
