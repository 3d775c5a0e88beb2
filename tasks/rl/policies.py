"""Gaussian behaviour policies in numpy: a standardiser, a 64-64 tanh network, a standard deviation per action.

Actions are drawn and then clipped to [-1, 1], so the action to expect is not the network's output but the mean of a
clipped Gaussian, which has a closed form. Nothing is unpickled: own policies are arrays in an npz, those of the data
root are HDF5.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from scipy.special import ndtr

from tasks.errors import DatasetError
from tasks.files import FETCH_AGAIN
from tasks.npz import read_arrays
from tasks.rl.robots import Robot

# What numpy, `read_arrays` and h5py raise for damaged bytes.
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError)
_LAYERS = ("hidden/FeedforwardNet/layer_0", "hidden/FeedforwardNet/layer_2", "out")


@dataclass(frozen=True)
class GaussianPolicy:
    """One policy: a ~ clip(N(tanh-network((o - mean) / std), exp(log_std)), -1, 1), all arrays float32.

    `clip` bounds standardised observations (infinity: no bound). Observations may be wider than the policy's input:
    it looks at the leading ones, for Ant's other 84 are zeros.
    """

    mean: Float32[np.ndarray, " do"]
    std: Float32[np.ndarray, " do"]
    clip: Float32[np.ndarray, ""]
    weight0: Float32[np.ndarray, "hidden do"]
    bias0: Float32[np.ndarray, " hidden"]
    weight1: Float32[np.ndarray, "hidden hidden"]
    bias1: Float32[np.ndarray, " hidden"]
    weight2: Float32[np.ndarray, "da hidden"]
    bias2: Float32[np.ndarray, " da"]
    log_std: Float32[np.ndarray, " da"]

    def centre(self, observations: Float[np.ndarray, "*batch wide"]) -> Float32[np.ndarray, "*batch da"]:
        """The Gaussian's mean, before any clipping."""
        seen = observations[..., : len(self.mean)].astype(np.float32, copy=False)
        hidden = np.clip((seen - self.mean) / self.std, -self.clip, self.clip)
        hidden = np.tanh(hidden @ self.weight0.T + self.bias0)
        hidden = np.tanh(hidden @ self.weight1.T + self.bias1)
        return hidden @ self.weight2.T + self.bias2

    def act(
        self, observations: Float[np.ndarray, "*batch wide"], rng: np.random.Generator
    ) -> Float32[np.ndarray, "*batch da"]:
        """Actions drawn at these observations, within [-1, 1]."""
        centre = self.centre(observations)
        noise = rng.standard_normal(centre.shape, np.float32)
        return np.clip(centre + np.exp(self.log_std) * noise, -1, 1)

    def expected_action(self, observations: Float[np.ndarray, "*batch wide"]) -> Float32[np.ndarray, "*batch da"]:
        """E[clip(a, -1, 1)] of a ~ N(m, s): -P(a < -1) + P(a > 1) + m P(|a| < 1) + s (phi(low) - phi(high))."""
        centre, std = self.centre(observations).astype(np.float64), np.exp(self.log_std.astype(np.float64))
        low, high = (-1 - centre) / std, (1 - centre) / std
        below, above = ndtr(low), ndtr(-high)
        density = np.exp(-0.5 * low**2) - np.exp(-0.5 * high**2)
        expected = above - below + centre * (1 - above - below) + std * density / np.sqrt(2 * np.pi)
        return expected.astype(np.float32)


NAMES = tuple(field.name for field in fields(GaussianPolicy))


@dataclass(frozen=True)
class Mixture:
    """The policies of one tier, and how often each acts.

    Attributes:
        policies: in the order of their training.
        iterations: environment steps (own) or iterations (data root) that each had been trained for.
        shares: the probability that an episode is acted by each; they sum to 1.
        algorithm: what trained them.
    """

    policies: tuple[GaussianPolicy, ...]
    iterations: tuple[int, ...]
    shares: tuple[float, ...]
    algorithm: str


def load_own(path: Path, robot: Robot) -> Mixture:
    """A tier's policies from an npz that `tasks.rl.packing` wrote: every array of `NAMES` stacked over the policies.

    Raises:
        DatasetError: if the file is missing, damaged, or another robot's.
    """
    fix = "reinstall aaren, or restore the file from the repository"
    try:
        arrays = read_arrays(path)
        algorithm = str(arrays["algorithm"])
        policies = tuple(policy_of({name: arrays[name][i] for name in NAMES}) for i in range(len(arrays["iterations"])))
        mixture = Mixture(policies, tuple(arrays["iterations"].tolist()), tuple(arrays["shares"].tolist()), algorithm)
    except _DAMAGE as error:
        raise DatasetError(path, f"is not a readable file of policies ({error})", fix) from error
    _check(path, mixture.policies, robot, fix)
    return mixture


def load_snapshots(path: Path, robot: Robot, iterations: Iterable[int]) -> tuple[GaussianPolicy, ...]:
    """The TRPO policies of the data root (an "openai/imitation" log): one after each of `iterations`.

    Raises:
        DatasetError: if the file is no such log or lacks a snapshot.
    """
    import h5py

    policies = []
    try:
        with h5py.File(path, "r") as file:
            for iteration in iterations:
                group: Any = file[f"snapshots/iter{iteration:07d}/GaussianPolicy"]
                mean = group["obsnorm/Standardizer/mean_1_D"][0, : robot.simulated]
                square = group["obsnorm/Standardizer/meansq_1_D"][0, : robot.simulated]
                arrays = {"mean": mean, "std": np.sqrt(square - mean**2), "clip": np.inf}
                arrays["log_std"] = group["logstdevs_1_Da"][0]
                for index, layer in enumerate(_LAYERS):
                    arrays[f"weight{index}"] = group[f"{layer}/AffineLayer/W"][:].T
                    arrays[f"bias{index}"] = group[f"{layer}/AffineLayer/b"][0]
                arrays["weight0"] = arrays["weight0"][:, : robot.simulated]
                policies.append(policy_of(arrays))
    except _DAMAGE as error:
        raise DatasetError(path, f"is not a readable log of policies ({error})", FETCH_AGAIN) from error
    _check(path, policies, robot, FETCH_AGAIN)
    return tuple(policies)


def snapshot_lengths(path: Path, iterations: Iterable[int]) -> Float[np.ndarray, " n"]:
    """The mean episode length that a log of the data root tells of each iteration. Raises DatasetError."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            table: Any = file["log"]
            return table["avglen"][:][list(iterations)].astype(np.float64)
    except (*_DAMAGE, IndexError) as error:
        raise DatasetError(path, f"is not a readable log of policies ({error})", FETCH_AGAIN) from error


def policy_of(arrays: Mapping[str, Any]) -> GaussianPolicy:
    """A policy from the arrays of `NAMES`, which are copied as float32."""
    return GaussianPolicy(**{name: np.array(arrays[name], np.float32, order="C") for name in NAMES})


def _check(path: Path, policies: Sequence[GaussianPolicy], robot: Robot, fix: str) -> None:
    for policy in policies:
        shape = (len(policy.mean), len(policy.log_std))
        if shape != (robot.simulated, robot.actions):
            wanted = f"{robot.simulated} observations and {robot.actions} actions as {robot.name} has"
            raise DatasetError(
                path, f"has a policy of {shape[0]} observations and {shape[1]} actions, not {wanted}", fix
            )
        finite = all(np.isfinite(getattr(policy, name)).all() for name in NAMES if name != "clip")
        if not (finite and (policy.std > 0).all()):
            raise DatasetError(path, "has a policy with weights that are not finite", fix)
