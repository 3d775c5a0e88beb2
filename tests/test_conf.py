"""Every shipped config composes, resolves, and says only what its place allows."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from tasks.composing import Composer
from tasks.jobconfig import TRAINED, prepare
from tasks.overrides import options
from tasks.suite.identity import run_id
from tasks.suite.manifest import load_manifest

CONF = Path(__file__).resolve().parents[1] / "conf"
DATASETS = options(CONF, "dataset")
PROFILES = options(CONF, "profile")
# One set of each family, and one of a known process, which has a rule of its own.
REPRESENTATIVES = ("ETTh1", "JapaneseVowels", "Wiki", "known/hawkes", "hopper-medium")


def composed(*overrides: str) -> dict:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        cfg = OmegaConf.to_container(compose("train", overrides=list(overrides)), resolve=True, throw_on_missing=True)
    assert isinstance(cfg, dict)
    return cfg


@pytest.fixture(scope="module")
def composers() -> dict[str, Composer]:
    return {profile: Composer(CONF, [f"profile={profile}", "protocol=honest"]) for profile in PROFILES}


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_dataset_composes_under_every_profile(dataset, composers):
    ids = set()
    for profile in PROFILES:
        whole = composed(f"dataset={dataset}", f"profile={profile}")
        with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
            assert composers[profile].of(dataset) == whole, "a plan would have other jobs than a sweep"
        cfg = prepare(whole)
        assert cfg["dataset"]["name"] == dataset
        assert cfg["profile"] == profile
        assert cfg["task"]["family"] == load_manifest().datasets[dataset].family
        for part in ("model", "optim", "budget", "data", "protocols", "trivial_models", "protocol_version"):
            assert part in cfg["task"], f"task.{part}"
        ids.add(run_id(cfg, dataset, {}))
    assert len(ids) == len(PROFILES), "profiles must make different jobs"


@pytest.mark.parametrize("family", options(CONF, "task"))
def test_a_profile_changes_budgets_and_sizes_never_what_is_measured(family):
    dataset = next(name for name in DATASETS if load_manifest().datasets[name].family == family)
    allowed = {"model", "optim", "budget", "data"} | ({"rollout"} if family == "rl" else set())
    tasks = [composed(f"dataset={dataset}", f"profile={profile}")["task"] for profile in PROFILES]
    for key in tasks[0].keys() - allowed:
        assert all(task[key] == tasks[0][key] for task in tasks), f"task.{key} differs between profiles"
    for path in (CONF / "profile" / family).glob("*.yaml"):
        content = yaml.safe_load(path.read_text())
        assert content.keys() <= allowed, path
        # how many episodes and how long, never how the policy acts or what it is asked for
        assert content.get("rollout", {}).keys() <= {"val_episodes", "test_episodes", "max_steps"}, path


@pytest.mark.parametrize("model", options(CONF, "model"))
def test_every_model_composes_and_some_dataset_has_it(model):
    extra = ["model.plugin=mine.py", "model.attention=mine"] if model == "custom" else []
    refused = []
    for dataset in REPRESENTATIVES:
        cfg = composed(f"dataset={dataset}", f"model={model}", *extra)
        assert cfg["model"]["name"] == ("mine" if model == "custom" else model)
        try:
            prepare(cfg)
        except ValueError:
            refused.append(dataset)
    if cfg["model"]["attention"] is not None:
        assert not refused, "an attention runs in every family"
    else:
        assert len(refused) < len(REPRESENTATIVES), "no dataset has this rule"


def test_the_trained_models_are_those_with_an_attention():
    files = {name: yaml.safe_load((CONF / "model" / f"{name}.yaml").read_text()) for name in options(CONF, "model")}
    assert set(TRAINED) == {name for name, content in files.items() if content["attention"] is not None}


@pytest.mark.parametrize("experiment", options(CONF, "experiment"))
def test_every_experiment_is_a_multirun_over_datasets_there_are(experiment):
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        cfg = compose("train", overrides=[f"experiment={experiment}"], return_hydra_config=True)
    assert cfg.hydra.mode.name == "MULTIRUN"
    params = cfg.hydra.sweeper.params
    assert set(params["dataset"].split(",")) <= set(DATASETS)
    assert params["profile"] == "paper"


@pytest.mark.parametrize("group", ["logger", "runtime"])
def test_every_other_choice_composes(group):
    for name in options(CONF, group):
        assert composed(f"{group}={name}")["dataset"]["name"] == "ETTh1"


def test_dataset_files_say_which_family_and_put_options_where_they_are_read():
    for name in DATASETS:
        text = (CONF / "dataset" / f"{name}.yaml").read_text()
        content = yaml.safe_load(text)
        assert content["defaults"][0].keys() == {"/task@_global_.task"}, name
        assert content["defaults"][1] == "_self_", name
        own = content["dataset"] if text.startswith("# @package _global_") else content
        assert own["name"] == name
        assert own["variant"] == "auto", name
        # A `task:` block in a file without `@package _global_` lands under `dataset`, where nobody looks.
        assert "task" not in own, name
