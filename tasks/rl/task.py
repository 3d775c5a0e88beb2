"""The RL task: imitation loss on windows, returns of seeded episodes, and the distance to the behaviour policy.

Scores of `window` roll-outs carry the plain names; those of the other modes are `normalized_score_reset` and so on, so
that no table takes them for the score.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from torch import Tensor

from tasks.rl.data import EvalEpisodes, RLData
from tasks.rl.environment import LockStep
from tasks.rl.model import DecisionTransformer
from tasks.rl.robots import normalized_score
from tasks.rl.rollout import RollOut, Watch, roll_out
from tasks.rl.video import Film
from tasks.rl.windows import Windows
from tasks.task import Measure, Selection, Task, TaskData

VIDEO = "episode.gif"


class WindowErrors:
    """Running sums over the real steps of held-out windows, in float64."""

    def __init__(self) -> None:
        self.steps, self.squared, self.excess, self.known = 0, 0.0, 0.0, False

    def add(self, predicted: Tensor, windows: Windows) -> None:
        """The mean over action dimensions of the squared distance to the action taken, and to the policy's mean."""
        self.steps += int(windows.valid.sum())
        self.squared += _squared(predicted, windows.actions, windows.valid)
        if windows.behaviour_mean is not None:
            self.known = True
            self.excess += _squared(predicted, windows.behaviour_mean, windows.valid)

    def measures(self) -> dict[str, Measure]:
        """Action error, and the excess over the behaviour policy's own where that is known; none without windows."""
        if not self.steps:
            return {}
        found = {"action_mse": Measure(self.squared / self.steps, self.steps, "squared action", False)}
        if self.known:
            found["excess_action_error"] = Measure(self.excess / self.steps, self.steps, "squared action", False)
        return found


def _squared(predicted: Tensor, target: Tensor, valid: Tensor) -> float:
    distance = (predicted - target).double().square().mean(-1)
    return float((distance * valid).sum())


class _Scoring(Task):
    """What a model and the behaviour policy share: the sums of a split, and the record's facts about the data."""

    selection = Selection("val", "normalized_score", "last", "last update")

    def __init__(self, data: RLData, rollout: Mapping[str, Any], *, optim: Mapping[str, Any], seed: int) -> None:
        super().__init__(optim=optim, seed=seed)
        self.robot, self.mean_return = data.robot, data.mean_return
        self.rollout = dict(rollout)
        self.errors = {split: WindowErrors() for split in ("val", "test")}
        self.episodes: dict[str, tuple[EvalEpisodes, RollOut]] = {}

    def predict(self, windows: Windows) -> Tensor:
        raise NotImplementedError

    def play(self, episodes: EvalEpisodes) -> RollOut:
        raise NotImplementedError

    def update_metrics(self, split: str, batch: EvalEpisodes | Windows) -> None:
        if isinstance(batch, EvalEpisodes):
            self.episodes[split] = batch, self.play(batch)
        else:
            self.errors[split].add(self.predict(batch), batch)

    def compute_metrics(self, split: str) -> dict[str, Measure]:
        measures = self.errors[split].measures()
        self.errors[split] = WindowErrors()
        if split not in self.episodes:
            return measures
        returns = self.episodes[split][1].returns
        mean, n, mode = float(returns.mean()), len(returns), self.rollout["mode"]
        suffix = "" if mode == "window" else f"_{mode}"
        scores = {
            f"normalized_score{suffix}": Measure(float(normalized_score(self.robot, mean)), n, "points", True),
            f"return{suffix}": Measure(mean, n, "reward", True),
        }
        if self.mean_return > 0:
            scores[f"return_ratio{suffix}"] = Measure(mean / self.mean_return, n, "of the data's mean return", True)
        return scores | measures


class RLTask(_Scoring):
    """Trains a `DecisionTransformer`: mean squared error of the actions at the real steps of each window."""

    divisible = True

    def __init__(
        self,
        model: DecisionTransformer,
        data: RLData,
        rollout: Mapping[str, Any],
        *,
        optim: Mapping[str, Any],
        seed: int,
    ) -> None:
        super().__init__(data, rollout, optim=optim, seed=seed)
        self.model = model
        self.context, self.scale, self.target_return = data.K, data.scale, data.target_return

    def loss_terms(self, batch: Windows) -> Tensor:
        return batch.valid.sum()

    def training_loss(self, batch: Windows) -> Tensor:
        distance = (self.model(batch) - batch.actions).square().mean(-1)
        return (distance * batch.valid).sum() / batch.valid.sum()

    def predict(self, windows: Windows) -> Tensor:
        return self.model(windows)

    def play(self, episodes: EvalEpisodes) -> RollOut:
        return self._play(episodes.seeds)

    def _play(self, seeds: Tensor, watch: Watch | None = None) -> RollOut:
        return roll_out(
            self.model,
            self.robot,
            seeds.cpu().numpy(),
            mode=self.rollout["mode"],
            context=self.context,
            target_return=self.target_return,
            scale=self.scale,
            max_steps=self.rollout["max_steps"],
            watch=watch,
        )

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        if self.rollout["video"] and "test" in self.episodes:
            self._film(Path(self.trainer.default_root_dir).parent / VIDEO)

    def _film(self, path: Path) -> None:
        """The first test episode once more, as a video beside the record and in the tracker."""
        film = Film()
        self._play(self.episodes["test"][0].seeds[:1], film)
        if film.develop(self.robot, path) is not None and isinstance(self.logger, WandbLogger):
            self.logger.log_video("episode", [str(path)])

    def artefacts(self, data: TaskData) -> dict[str, Any]:
        """Every test episode, under which rule, engine and versions; last and best evaluation; what was counted."""
        assert isinstance(data, RLData)
        found: dict[str, Any] = {"data": data.facts(), "evaluations": self._evaluations()}
        found["parameters"] = {
            "with_the_base_codes_unused_heads": self.model.base_code_parameters,
            "note": "its return and state heads never enter the loss; they are left out here",
        }
        if "test" in self.episodes:
            episodes, played = self.episodes["test"]
            found["rollout"] = {
                "mode": self.rollout["mode"],
                "context": self.context,
                "target_return": self.target_return,
                "target_rule": data.target_rule,
                "return_scale": self.scale,
                "max_steps": self.rollout["max_steps"],
                "environment": LockStep(self.robot, [0]).versions(),
                "seeds": [int(seed) for seed in episodes.seeds],
                "returns": [round(float(value), 6) for value in played.returns],
                "lengths": [int(value) for value in played.lengths],
            }
        return found

    def _evaluations(self) -> dict[str, Any]:
        """The last validation roll-out, which is the result's, and the best, which is no result."""
        name = "val/normalized_score" + ("" if self.rollout["mode"] == "window" else f"_{self.rollout['mode']}")
        rows = [row for row in self.history if name in row]
        if not rows:
            return {}
        kept = [{"step": int(row["step"]), name: row[name]} for row in (rows[-1], max(rows, key=lambda row: row[name]))]
        return dict(zip(("last", "best"), kept, strict=True))


class BehaviourTask(_Scoring):
    """What imitation can reach: the return of the data's own episodes, and no excess over their policy.

    Its episodes are those of the data, not simulated ones.
    """

    def __init__(self, data: RLData, rollout: Mapping[str, Any], *, optim: Mapping[str, Any], seed: int) -> None:
        super().__init__(data, {**rollout, "mode": "window"}, optim=optim, seed=seed)
        self.data = data

    def training_loss(self, batch: Windows) -> Tensor:
        raise TypeError("the behaviour policy is not trained")

    def update_metrics(self, split: str, batch: EvalEpisodes | Windows) -> None:
        # A policy that is not known has no action errors; its return is known all the same.
        if isinstance(batch, EvalEpisodes) or batch.behaviour_mean is not None:
            super().update_metrics(split, batch)

    def predict(self, windows: Windows) -> Tensor:
        assert windows.behaviour_mean is not None
        return windows.behaviour_mean

    def play(self, episodes: EvalEpisodes) -> RollOut:
        return RollOut(self.data.all_returns, self.data.all_lengths)

    def artefacts(self, data: TaskData) -> dict[str, Any]:
        assert isinstance(data, RLData)
        return {"data": data.facts()}
