"""Training the behaviour policies of the surrogates: stable-baselines3's PPO, kept along the way.

A work folder holds `curve.csv`, `snapshots/<steps>.npz` (plain arrays, see `tasks.rl.policies`) and `state.pt`, from
which a training that was cut off goes on. The folder is outside the repository; what `tasks.rl.packing` picks from
it is committed.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks.checkpoints import read_checkpoint
from tasks.errors import ConfigError
from tasks.rl.environment import make_env
from tasks.rl.robots import Robot
from tasks.suite.atomic import write_atomic

WIDTH = 64
CLIP_OBSERVATION = 10.0
Line = dict[str, int | float]  # of the learning curve, by `COLUMNS`
COLUMNS: tuple[str, ...] = ("steps", "return", "length", "episodes", "cpu_seconds")


@dataclass(frozen=True)
class Settings:
    """PPO's settings for one robot; 64-64 tanh, observations and rewards standardised, linear decay of the rate."""

    steps: int = 3_000_000
    n_envs: int = 16
    n_steps: int = 128
    batch_size: int = 128
    n_epochs: int = 10
    learning_rate: float = 3e-4
    gamma: float = 0.99
    gae_lambda: float = 0.95
    ent_coef: float = 0.0
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    clip_range: float = 0.2
    log_std: float = -0.5


SETTINGS = {
    "hopper": Settings(),
    "walker2d": Settings(),
    "halfcheetah": Settings(steps=2_000_000, gamma=0.98, gae_lambda=0.92, log_std=-1.0, max_grad_norm=0.8),
    "ant": Settings(steps=1_500_000, log_std=-1.0),
}


def train(
    robot: Robot,
    work: Path,
    settings: Settings,
    seed: int,
    every: int,
    report: Callable[[Line], None],
    until: int | None = None,
) -> None:
    """Train a behaviour policy, or go on with one; a snapshot and a line of the curve every `every` steps.

    Args:
        work: the folder of this training; one (robot, settings, seed) only.
        report: called with each new line of the curve.
        until: stop early, at the last snapshot that is not after this many steps; the learning rate still decays
            towards 0 at `settings.steps`.

    Raises:
        ConfigError: if stable-baselines3 is missing, or `work` holds a training with other settings.
    """
    ppo_class, callback_class, vector, normalize = _library()
    torch.set_num_threads(1)
    ask = f"{robot.name} seed {seed} {asdict(settings)}"
    told = work / "settings.txt"
    if told.exists() and told.read_text() != ask:
        raise ConfigError("--work", str(work), f"holds another training ({told}); choose an empty folder")
    write_atomic(told, ask.encode())
    state = _load_state(work / "state.pt")
    done = int(state["steps"]) if state else 0
    # after an interruption the episodes start afresh, so their seeds are new ones
    envs = normalize(
        vector([lambda: _monitored(robot)] * settings.n_envs), gamma=settings.gamma, clip_obs=CLIP_OBSERVATION
    )
    chosen = asdict(settings)
    rate, log_std = chosen["learning_rate"], chosen.pop("log_std")
    model = ppo_class(
        "MlpPolicy",
        envs,
        **{k: v for k, v in chosen.items() if k not in ("steps", "n_envs", "learning_rate")},
        learning_rate=lambda remaining: rate * remaining,
        policy_kwargs={
            "net_arch": {"pi": [WIDTH, WIDTH], "vf": [WIDTH, WIDTH]},
            "activation_fn": torch.nn.Tanh,
            "log_std_init": log_std,
        },
        seed=seed + done,
        device="cpu",
    )
    curve: list[Line] = []
    cpu_before = 0.0
    if state:
        model.policy.load_state_dict(state["policy"])
        model.policy.optimizer.load_state_dict(state["optimizer"])
        for moments, saved in ((envs.obs_rms, state["observations"]), (envs.ret_rms, state["rewards"])):
            moments.mean, moments.var, moments.count = saved[0].numpy(), saved[1].numpy(), float(saved[2])
        model.num_timesteps, cpu_before = done, float(state["cpu_seconds"])
        curve = [line for line in read_curve(work / "curve.csv") if line["steps"] <= done]
    start = time.process_time()

    def keep(model: Any) -> None:
        steps = int(model.num_timesteps)
        if curve and curve[-1]["steps"] == steps:
            return
        seen = list(model.ep_info_buffer or ())
        line = {
            "steps": steps,
            "return": float(np.mean([episode["r"] for episode in seen])) if seen else float("nan"),
            "length": float(np.mean([episode["l"] for episode in seen])) if seen else float("nan"),
            "episodes": len(seen),
            "cpu_seconds": round(cpu_before + time.process_time() - start, 1),
        }
        curve.append(line)
        _write_snapshot(work / "snapshots" / f"{steps:09d}.npz", model.policy, envs)
        write_atomic(work / "curve.csv", _as_csv(curve))
        _save_state(work / "state.pt", model, envs, line)
        report(line)

    class Snapshots(callback_class):
        """Keeps the policy between updates, before the next rollout moves the standardiser on."""

        def _on_rollout_start(self) -> None:
            if self.num_timesteps == 0 or self.num_timesteps >= (curve[-1]["steps"] if curve else 0) + every:
                keep(self.model)

        def _on_step(self) -> bool:
            return until is None or self.num_timesteps <= until

    if done < min(settings.steps, until or settings.steps):
        model.learn(settings.steps - done, callback=Snapshots(), reset_num_timesteps=False)
        if until is None or until >= settings.steps:
            keep(model)
    envs.close()


def read_curve(path: Path) -> list[Line]:
    """The lines of a learning curve: mean return and length of the last 100 training episodes at each snapshot."""
    with path.open(newline="") as stream:
        return [{name: float(value) for name, value in line.items()} for line in csv.DictReader(stream)]


def _library() -> tuple[Any, Any, Any, Any]:
    try:
        from stable_baselines3 import PPO  # pyright: ignore[reportMissingImports]
        from stable_baselines3.common.callbacks import BaseCallback  # pyright: ignore[reportMissingImports]
        from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError("train", "stable-baselines3", 'is not installed: pip install "aaren[behaviour]"') from error
    return PPO, BaseCallback, DummyVecEnv, VecNormalize


def _monitored(robot: Robot) -> Any:
    from stable_baselines3.common.monitor import Monitor  # pyright: ignore[reportMissingImports]

    return Monitor(make_env(robot))


def _write_snapshot(path: Path, policy: Any, envs: Any) -> None:
    layers = (policy.mlp_extractor.policy_net[0], policy.mlp_extractor.policy_net[2], policy.action_net)
    arrays = {
        "mean": envs.obs_rms.mean,
        "std": np.sqrt(envs.obs_rms.var + envs.epsilon),
        "clip": np.array(CLIP_OBSERVATION),
        "log_std": policy.log_std.detach().numpy(),
    }
    for index, layer in enumerate(layers):
        arrays[f"weight{index}"] = layer.weight.detach().numpy()
        arrays[f"bias{index}"] = layer.bias.detach().numpy()
    content = io.BytesIO()
    plain: dict[str, Any] = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    np.savez_compressed(content, **plain)
    write_atomic(path, content.getvalue())


def _save_state(path: Path, model: Any, envs: Any, line: Line) -> None:
    moments = {
        name: [torch.as_tensor(rms.mean), torch.as_tensor(rms.var), float(rms.count)]
        for name, rms in (("observations", envs.obs_rms), ("rewards", envs.ret_rms))
    }
    state = {"policy": model.policy.state_dict(), "optimizer": model.policy.optimizer.state_dict(), **moments}
    content = io.BytesIO()
    torch.save({**state, "steps": line["steps"], "cpu_seconds": line["cpu_seconds"]}, content)
    write_atomic(path, content.getvalue())


def _load_state(path: Path) -> dict[str, Any] | None:
    return read_checkpoint(path) if path.exists() else None


def _as_csv(curve: list[Line]) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(COLUMNS), lineterminator="\n")
    writer.writeheader()
    for line in curve:
        writer.writerow({name: round(line[name], 1) for name in COLUMNS})
    return out.getvalue().encode()
