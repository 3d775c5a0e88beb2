"""Windows of K steps cut from episodes: one gather a batch, padded on the right, never across an episode's end.

Right padding needs no mask in a causal model, only in the loss (protocol of the Decision Transformer).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tasks.rl.episodes import Episodes

SAMPLING = ("uniform", "length")
STD_FLOOR = 1e-6  # added to every standard deviation, as in the base code


class Windows(NamedTuple):
    """B windows of K steps, padded with zeros on the right.

    returns_to_go [B, K, 1], states [B, K, n] standardised, actions [B, K, da], timesteps [B, K] int64 (the step in
    the episode, counted on through the padding), valid [B, K] bool, behaviour_mean [B, K, da] or None.
    """

    returns_to_go: Tensor
    states: Tensor
    actions: Tensor
    timesteps: Tensor
    valid: Tensor
    behaviour_mean: Tensor | None = None


@dataclass(frozen=True)
class Standardiser:
    """From observations to what the model sees: the first n dimensions, minus `mean` [n], over `std` [n]."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, observations: np.ndarray, width: int) -> Standardiser:
        """Mean and standard deviation over all steps [S, d], cut or (Ant: zeros) padded to `width` dimensions."""
        mean, std = np.zeros(width, np.float32), np.zeros(width, np.float32)
        shared = min(width, observations.shape[1])
        mean[:shared] = observations[:, :shared].mean(0, dtype=np.float64)
        std[:shared] = observations[:, :shared].std(0, dtype=np.float64)
        return cls(mean, (std + np.float32(STD_FLOOR)).astype(np.float32))

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Standardise [..., d] to [..., n] float32; dimensions that are not there are 0, as they are in the data."""
        shared = min(len(self.mean), observations.shape[-1])
        states = np.zeros((*observations.shape[:-1], len(self.mean)), np.float32)
        states[..., :shared] = (observations[..., :shared] - self.mean[:shared]) / self.std[:shared]
        return states


class WindowCutter:
    """Cuts windows from episodes. A window is named by the flat step it begins at.

    Args:
        episodes: E of them, S steps in all.
        standardise: fitted on the training episodes.
        length: K, steps of a window.
        scale: what returns-to-go are divided by.
    """

    def __init__(self, episodes: Episodes, standardise: Standardiser, *, length: int, scale: float) -> None:
        self.episodes, self.standardise, self.length = episodes, standardise, length
        self.returns_to_go = episodes.returns_to_go(scale)

    def cut(self, first: np.ndarray) -> Windows:
        """The windows that begin at flat steps `first` [B]; each ends at its episode's end at the latest."""
        starts = self.episodes.starts
        episode = np.searchsorted(starts, first, side="right") - 1
        ahead = np.arange(self.length)
        valid = ahead < (starts[episode + 1] - first)[:, None]
        step = np.where(valid, first[:, None] + ahead, first[:, None])
        padding = ~valid

        def gather(values: np.ndarray) -> np.ndarray:
            taken = values[step]
            taken[padding] = 0
            return taken

        states = self.standardise(self.episodes.observations[step])
        states[padding] = 0
        means = self.episodes.behaviour_mean
        return Windows(
            returns_to_go=torch.from_numpy(gather(self.returns_to_go)[..., None]),
            states=torch.from_numpy(states),
            actions=torch.from_numpy(gather(self.episodes.actions)),
            timesteps=torch.from_numpy((first - starts[episode])[:, None] + ahead),
            valid=torch.from_numpy(valid),
            behaviour_mean=None if means is None else torch.from_numpy(gather(means)),
        )

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...], sampling: str) -> np.ndarray:
        """First steps of random windows, of the given shape.

        The episode is drawn with replacement, `uniform` or in proportion to its `length`; the window begins anywhere
        from its first step to K steps before its end (at the first step of an episode that is shorter than K).
        """
        starts, lengths = self.episodes.starts, self.episodes.lengths
        if sampling == "length":
            episode = np.searchsorted(starts, rng.integers(starts[-1], size=shape), side="right") - 1
        else:
            episode = rng.integers(len(lengths), size=shape)
        return starts[episode] + rng.integers(np.maximum(lengths - self.length, 0)[episode], endpoint=True)

    def tiles(self) -> np.ndarray:
        """First steps of the windows that cover every step once, in order."""
        lengths = self.episodes.lengths
        counts = -(-lengths // self.length)
        before = np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(self.episodes.starts[:-1], counts) + self.length * (np.arange(counts.sum()) - before)
