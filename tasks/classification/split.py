"""The honest split of TRAIN: stratified, seeded, disjoint (protocol, section 2.2)."""

from __future__ import annotations

import numpy as np

_STREAM = 0x5917  # keeps the split's random numbers apart from every other use of the job's seed


def stratified_split(labels: np.ndarray, seed: int, fraction: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Case numbers (train, val), both ascending; `fraction` of each class goes to val, drawn from `seed`.

    Every class of two cases or more keeps at least one on each side: Handwriting's smallest has two, which
    scikit-learn's splitter does not promise. A class of one case stays in train. The two models of one seed
    get the same split, so that their runs pair.
    """
    rng = np.random.default_rng([_STREAM, seed])
    chosen = []
    for label in np.unique(labels):
        cases = rng.permutation(np.flatnonzero(labels == label))
        wanted = int(np.floor(fraction * len(cases) + 0.5))
        chosen.append(cases[: np.clip(wanted, 1, len(cases) - 1) if len(cases) > 1 else 0])
    val = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(labels)), val), val
