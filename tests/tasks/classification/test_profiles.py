"""The shipped profiles make tasks that train, and `paper` holds the base code's settings (protocol, section 1.3)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tasks.classification import build_task
from tasks.classification.data import ClassificationData

CONF = Path(__file__).parents[3] / "conf"


def shipped(profile):
    return yaml.safe_load((CONF / "profile" / "classification" / f"{profile}.yaml").read_text())


@pytest.mark.parametrize("profile", ["smoke", "quick", "paper"])
@pytest.mark.parametrize("name", ["aaren", "transformer"])
def test_profile_makes_a_task_that_trains(profile, name, toy):
    settings = shipped(profile)
    data = ClassificationData(toy, protocol="honest", seed=0, **settings["data"])
    cfg = {"task": settings, "model": {"name": name, "attention": name}, "seed": 0}
    torch.manual_seed(0)
    task = build_task(cfg, data).eval()  # without dropout: the loss must fall
    optimiser = task.configure_optimizers()["optimizer"]
    assert optimiser.param_groups[0]["lr"] == settings["optim"]["lr"]
    batch = data.batch("train", np.arange(8))
    losses = []
    for _ in range(40):
        loss = task.training_loss(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_paper_is_the_base_codes_protocol():
    settings = shipped("paper")
    sizes = {"d_model": 128, "n_layers": 3, "n_heads": 8, "d_ff": 256, "dropout": 0.1, "activation": "gelu"}
    assert settings["model"].items() >= sizes.items()
    assert settings["optim"].items() >= {"name": "radam", "lr": 1e-3, "clip": 4.0}.items()
    assert settings["budget"].items() >= {"max_epochs": 100, "patience": 10}.items()
    assert settings["data"]["batch_size"] == 16


def test_profiles_differ_in_sizes_and_budgets_alone():
    quick, paper, smoke = (shipped(profile) for profile in ("quick", "paper", "smoke"))
    assert quick.keys() == paper.keys() == smoke.keys()
    for part in quick:
        assert quick[part].keys() == paper[part].keys() == smoke[part].keys()
    for profile in (quick, smoke):
        for key in ("norm", "embedding_kernel", "activation"):
            assert profile["model"][key] == paper["model"][key]
