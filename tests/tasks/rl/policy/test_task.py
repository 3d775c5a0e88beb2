"""The task: what it minimises, how it scores, what its record says, and that a resume changes nothing."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from tasks.errors import ConfigError
from tasks.rl import build_task, load_data
from tasks.rl import task as module
from tasks.rl.data import EvalEpisodes
from tasks.rl.rollout import RollOut
from tasks.rl.task import RLTask
from tasks.training import plan_budget, train_and_score


def task_of(data, options, name="aaren", attention="", **rollout):
    torch.manual_seed(0)
    model = {"name": name, "attention": None if name == "behaviour" else attention or name}
    task = {**options, "rollout": {**options["rollout"], **rollout}}
    return build_task({"model": model, "task": task, "seed": 0}, data)


def score(task, data, split="test"):
    task.eval()
    with torch.no_grad():
        for indices in data.eval_batches(split):
            task.update_metrics(split, data.batch(split, indices))
        return task.compute_metrics(split)


@pytest.fixture
def played(monkeypatch):
    """Roll-outs that return 10 times the seed's last digit plus ten, without a simulator; what they were asked."""
    asked: list[dict[str, Any]] = []

    def roll_out(model, robot, seeds, **options):
        asked.append({"robot": robot.name, "seeds": seeds.tolist(), **options})
        return RollOut(10.0 * (seeds % 10) + 10, np.full(len(seeds), 7))

    monkeypatch.setattr(module, "roll_out", roll_out)
    return asked


def test_the_loss_is_over_real_steps_alone(data_of, options):
    data = data_of()
    task = task_of(data, options).eval()
    batch = data.batch("train", data.episodes.starts[:8] + np.maximum(data.episodes.lengths[:8] - 3, 0))
    assert not batch.valid.all()
    with torch.no_grad():
        distance = (task.model(batch) - batch.actions)[batch.valid]
        assert float(task.training_loss(batch)) == pytest.approx(float(distance.square().mean()), rel=1e-6)
        spoilt = batch._replace(actions=torch.where(batch.valid[..., None], batch.actions, 9.0))
        assert torch.equal(task.training_loss(spoilt), task.training_loss(batch)), "padding counts"


@pytest.mark.parametrize("attention", ["aaren", "transformer"])
def test_overfits_eight_windows(attention, data_of, options):
    options["model"] |= {"d_model": 64, "d_ff": 128, "n_layers": 1, "dropout": 0.0}
    options["optim"]["lr"] = 5e-3
    data = data_of()
    task = task_of(data, options, attention)
    optimiser = task.configure_optimizers()["optimizer"]
    batch = data.batch("train", data.train_batches(0)[0])
    first = float(task.training_loss(batch).detach())
    for _ in range(100):
        loss = task.training_loss(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 2e-3 < first / 50


def test_scores_do_not_depend_on_the_batch_and_repeat_to_the_bit(data_of, options, played):
    found = [score(task_of(data_of(eval_batch_size=n), options), data_of(eval_batch_size=n)) for n in (1, 7, 1000)]
    for name, measure in found[0].items():
        assert measure.n == found[1][name].n == found[2][name].n
        assert [f[name].value for f in found] == pytest.approx([measure.value] * 3, rel=1e-6)
    data = data_of()
    task = task_of(data, options)
    assert score(task, data) == score(task, data)


def test_scores_of_episodes(data_of, options, played):
    data = data_of()
    measures = score(task_of(data, options), data)
    assert measures["return"][:2] == (20.0, 3)
    assert measures["return_ratio"].value == pytest.approx(20.0 / data.mean_return)
    assert measures["normalized_score"].value == pytest.approx(100 * (20 + 20.272305) / (3234.3 + 20.272305))
    held_out = int(data.cutters["test"].episodes.lengths.sum())
    assert measures["excess_action_error"].n == measures["action_mse"].n == held_out
    asked = played[0]
    assert (asked["mode"], asked["context"], asked["scale"], asked["max_steps"]) == ("window", 6, 1000.0, 30)
    assert asked["target_return"] == data.episodes.returns.max()


@pytest.mark.parametrize("mode", ["reset", "stream"])
def test_another_mode_is_never_taken_for_the_score(mode, data_of, options, played):
    data = data_of()
    measures = score(task_of(data, options, mode=mode), data)
    names = {"normalized_score", "return", "return_ratio"}
    assert {name.removesuffix(f"_{mode}") for name in measures} == names | {"action_mse", "excess_action_error"}
    assert not names & measures.keys()


def test_the_behaviour_policy_is_the_datas_own_and_has_no_excess(data_of, options):
    data = data_of()
    task = task_of(data, options, "behaviour")
    measures = score(task, data)
    assert measures["return"].value == pytest.approx(data.all_returns.mean())
    assert measures["return"].n == 40
    assert measures["return_ratio"].value == 1.0
    assert measures["excess_action_error"].value == 0.0
    assert 0.003 < measures["action_mse"].value < 0.02, "the noise of the invented policy, clipped: at most 0.01"
    assert not list(task.parameters())
    with pytest.raises(TypeError, match="not trained"):
        task.training_loss(data.batch("train", np.arange(2)))


def test_where_no_policy_is_known_there_is_no_excess(data_of, options, played):
    data = data_of(hold_out=False)  # as D4RL's own sets
    for name in ("aaren", "behaviour"):
        measures = score(task_of(data, options, name), data)
        assert measures.keys() == {"normalized_score", "return", "return_ratio"}


def test_a_whole_run_its_record_and_a_resume(data_of, options, played, tmp_path, monkeypatch):
    def run(folder, stop_at=None):
        data = data_of()
        task = task_of(data, options)
        loss, calls = RLTask.training_loss, []

        def interrupted(self, batch):
            calls.append(1)
            if stop_at is not None and len(calls) > stop_at:
                raise KeyboardInterrupt
            return loss(self, batch)

        monkeypatch.setattr(RLTask, "training_loss", interrupted)
        try:
            budget = plan_budget({"max_steps": 12, "eval_every": 4, "patience": None}, data.steps_per_epoch)
            found = train_and_score(task, data, budget=budget, folder=tmp_path / folder)
            return found, json.loads(json.dumps(task.artefacts(data)))
        except (KeyboardInterrupt, SystemExit):  # Lightning makes the one into the other
            return None
        finally:
            monkeypatch.setattr(RLTask, "training_loss", loss)

    whole, facts = run("whole")
    assert run("broken", stop_at=6) is None
    resumed, again = run("broken")
    assert resumed == whole, "a resumed run ended elsewhere"
    assert again == facts
    assert whole["selection"] == {
        "split": "val", "metric": "last update", "mode": "last", "step": 12,
        "value": whole["metrics"]["val"]["normalized_score"].value,
    }  # fmt: skip
    assert torch.load(tmp_path / "whole" / "best.ckpt", weights_only=True)["global_step"] == 12
    assert facts["rollout"]["returns"] == [10.0, 20.0, 30.0]
    assert facts["rollout"]["seeds"] == [2_000_000, 2_000_001, 2_000_002]
    assert facts["rollout"]["lengths"] == [7, 7, 7]
    assert facts["rollout"]["environment"].keys() == {"env_id", "gymnasium", "mujoco"}
    assert facts["rollout"]["target_rule"] == "the best return in the training episodes"
    assert [facts["evaluations"][which]["step"] for which in ("last", "best")] == [12, 4]
    assert facts["parameters"]["with_the_base_codes_unused_heads"] == whole["parameters"] + 17 * 12


def test_patience_has_no_meaning_where_the_last_update_counts(data_of, options, tmp_path):
    data = data_of()
    budget = plan_budget({"max_steps": 4, "eval_every": 2, "patience": 3}, data.steps_per_epoch)
    with pytest.raises(ConfigError, match=r"task\.budget\.patience"):
        train_and_score(task_of(data, options), data, budget=budget, folder=tmp_path)


@pytest.mark.parametrize(
    ("name", "changes", "named"),
    [
        ("transformer", {"rollout": {"mode": "stream"}}, "task.rollout.mode"),
        ("aaren", {"model": {"timesteps": 35}}, "task.model.timesteps"),
        ("aaren", {"model": {"n_heads": 5}}, "task.model"),
        ("aaaren", {}, "aaaren"),
        ("behavior", {}, "model"),
    ],
)
def test_impossible_models_are_config_errors(name, changes, named, data_of, options):
    for part, values in changes.items():
        options[part] |= values
    cfg = {"model": {"name": name, "attention": None if name == "behavior" else name}, "task": options, "seed": 0}
    with pytest.raises(ConfigError, match=named):
        build_task(cfg, data_of())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("mode", "recurrent"), ("max_steps", 0), ("max_steps", True), ("target_return", "much"),
        ("target_return", float("nan")), ("target_return", float("inf")), ("video", "yes"),
    ],
)  # fmt: skip
def test_impossible_rollouts_are_refused_before_data_is_read(option, value, options):
    options["rollout"][option] = value
    with pytest.raises(ConfigError, match=f"task.rollout.{option}"):
        load_data({"task": options}, None)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("option", ["horizon", "fold"])
def test_other_families_options_are_refused(option, options):
    with pytest.raises(ConfigError, match=f"{option}=1"):
        load_data({"task": options, option: 1}, None)  # pyright: ignore[reportArgumentType]


def test_episodes_and_windows_are_told_apart_on_any_device(data_of):
    data = data_of()
    batch = data.batch("val", data.eval_batches("val")[0])
    assert isinstance(batch, EvalEpisodes)
    from lightning.fabric.utilities import move_data_to_device

    assert isinstance(move_data_to_device(batch, torch.device("cpu")), EvalEpisodes)
