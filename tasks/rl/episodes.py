"""Whole episodes of one robot as flat arrays: what the reader gives and the windows are cut from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Episodes:
    """E complete episodes with S steps in all; episode e holds steps starts[e] .. starts[e+1]-1.

    Attributes:
        observations: [S, do] float32 as the simulator gives them; Ant's 84 dimensions that are always 0 are left out.
        actions: [S, da] float32.
        rewards: [S] float32.
        starts: [E+1] int64.
        behaviour_mean: [S, da] float32, the mean action of the policy that acted, where it is known (surrogates).
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    starts: np.ndarray
    behaviour_mean: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Steps of each episode, [E] int64."""
        return np.diff(self.starts)

    @property
    def returns(self) -> np.ndarray:
        """The undiscounted return of each episode, [E] float64."""
        return np.add.reduceat(self.rewards.astype(np.float64), self.starts[:-1]) if len(self) else np.empty(0)

    def returns_to_go(self, scale: float) -> np.ndarray:
        """The sum of rewards from each step to the end of its episode, divided by `scale`, [S] float32."""
        before = np.concatenate([[0.0], np.cumsum(self.rewards, dtype=np.float64)])
        at_end = np.repeat(before[self.starts[1:]], self.lengths)
        return ((at_end - before[:-1]) / scale).astype(np.float32)

    def select(self, indices: np.ndarray) -> Episodes:
        """The chosen episodes, in the order given."""
        lengths = self.lengths[indices]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        steps = np.repeat(self.starts[:-1][indices] - starts[:-1], lengths) + np.arange(starts[-1])
        return replace(
            self,
            observations=self.observations[steps],
            actions=self.actions[steps],
            rewards=self.rewards[steps],
            starts=starts,
            behaviour_mean=None if self.behaviour_mean is None else self.behaviour_mean[steps],
        )
