"""The generated sets: the processes of known likelihood by name, drawn from a seed into the family's format."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tasks.events.hawkes import Hawkes
from tasks.events.processes import LogNormalRenewal, Poisson, Process, SelfCorrecting, Simulated
from tasks.events.sequences import EventSequences
from tasks.events.sine import SineFixedCount, SinePoisson

VERSION = 1
"""Of the generators: raised when the same seed gives other events."""

PROCESSES: dict[str, Callable[[], Process]] = {
    "sin-poisson": SinePoisson,
    "sin-fixed-n": SineFixedCount,
    "poisson": lambda: Poisson(1.0, 100),
    "renewal": lambda: LogNormalRenewal(-1.0, 1.4, 100),
    "self-correcting": lambda: SelfCorrecting(1.0, 1.0, 100),
    # one slow and one fast exponential: most of the information is in the last few gaps
    "hawkes": lambda: Hawkes([0.2], [0.4, 0.4], [1.0, 20.0], 100),
    "hawkes-marked": lambda: Hawkes([0.1, 0.1, 0.1], [[0.3, 0.4, 0.0], [0.0, 0.3, 0.4], [0.4, 0.0, 0.3]], [2.0], 100),
}
N_SEQUENCES = 1000


def process(name: str) -> Process:
    """The process called `name`; KeyError lists the names."""
    if name not in PROCESSES:
        raise KeyError(f"no process {name!r}; known: {', '.join(PROCESSES)}")
    return PROCESSES[name]()


def generate(name: str, seed: int = 0, n_sequences: int = N_SEQUENCES) -> EventSequences:
    """`n_sequences` of the named process on its window; the same seed gives the same events."""
    law = process(name)
    return as_sequences(law.simulate(n_sequences, np.random.default_rng([VERSION, seed])), law)


def as_sequences(simulated: Simulated, law: Process) -> EventSequences:
    """Padded to flat."""
    lengths = simulated.valid.sum(1)
    return EventSequences(
        times=simulated.times[simulated.valid],
        marks=simulated.marks[simulated.valid].astype(np.int64),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        window_start=np.zeros(len(lengths)),
        window_end=np.full(len(lengths), law.window),
        split=np.full(len(lengths), -1, np.int8),
        n_marks=law.n_marks,
        unit="1",
    )


def pad(sequences: EventSequences) -> Simulated:
    """Flat to padded, zeros behind a sequence's last event."""
    lengths = sequences.lengths
    valid = np.arange(lengths.max()) < lengths[:, None]
    times = np.zeros(valid.shape)
    marks = np.zeros(valid.shape, np.int64)
    times[valid], marks[valid] = sequences.times, sequences.marks
    return Simulated(times, marks, valid)


def log_likelihood(law: Process, sequences: EventSequences) -> np.ndarray:
    """log p of gap and mark under the truth for every predicted event, in order (first events are input only)."""
    after = law.laws(*pad(sequences))
    gaps = sequences.gaps()
    predicted = np.flatnonzero(np.isfinite(gaps))
    before = after.select(predicted - 1)
    gap, mark = gaps[predicted], sequences.marks[predicted]
    mark_law = before.mark_log_probs(gap)
    marks = 0.0 if mark_law is None else mark_law[np.arange(len(gap)), mark]
    return before.log_prob(gap) + marks
