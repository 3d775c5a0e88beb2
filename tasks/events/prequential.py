"""Score, then update: a batch of sequences replayed as streams. Its scores equal those of the parallel form."""

from __future__ import annotations

import torch
from torch import Tensor

from tasks.events.batch import EventBatch
from tasks.events.scores import Scored
from tasks.events.streaming import EventForecaster


@torch.no_grad()
def score_stream(forecaster: EventForecaster, batch: EventBatch) -> Scored:
    """What `score_model` gives, with every sequence of the batch an entity of a stream. One step per event rank."""
    n_rows, width = batch.valid.shape
    # times of a batch count from each sequence's origin already
    state = forecaster.initial_state(n_rows, origin=torch.zeros(n_rows, dtype=torch.float64))
    names = ("log_prob", "log_survival", "mean", "median", "log_mark", "hit")
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    places = []
    for rank in range(width):
        here = batch.valid[:, rank]
        if rank:
            rows = here.nonzero()[:, 0]
            law = forecaster.law(state.select(rows))
            gap = (batch.times[rows, rank] - batch.times[rows, rank - 1]).to(law.gap.means.dtype)
            mark = batch.marks[rows, rank]
            answers = (
                law.gap.log_prob(gap),
                law.gap.log_survival(gap),
                law.gap.mean(),
                law.gap.quantile(0.5),
                law.mark_log_probs.gather(1, mark[:, None])[:, 0],
                law.mark_log_probs.argmax(-1) == mark,
            )
            for name, answer in zip(names, answers, strict=True):
                parts[name].append(answer)
            places.append(rows * width + rank - 1)
        state, _ = forecaster.step(state, batch.times[:, rank], batch.marks[:, rank], here)
    tail_law = forecaster.law(state.select(batch.tail_row)).gap
    tail = tail_law.log_survival(batch.tail.to(tail_law.means.dtype))
    order = torch.argsort(torch.cat(places))  # the batch lists predicted events sequence by sequence
    joined = {name: torch.cat(part)[order] for name, part in parts.items()}
    if forecaster.model.mark_head is None:
        return Scored(**{k: joined[k] for k in names[:4]}, log_mark=None, hit=None, tail_log_survival=tail)
    return Scored(**joined, tail_log_survival=tail)
