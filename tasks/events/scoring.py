"""From a model and a batch to what `Scores` sums: the laws of all predicted events at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.events.batch import EventBatch
from tasks.events.mixture import LogNormalMixture
from tasks.events.model import EventModel
from tasks.events.scores import Scored

_MARK_CHUNK = 1 << 24  # logits held at once while scoring: a vocabulary of thousands times a batch would fill memory
BASE_GAP = 1e-12  # what the base code adds to every gap
BASE_TAIL = 1e-5  # where the base code clamps 1 - cdf


def log_likelihood(model: EventModel, batch: EventBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over a batch, for training: log density of the gaps, log P of the marks, log S up to the windows' ends."""
    hidden = model(batch.times, batch.marks, batch.valid).flatten(0, 1)
    before = hidden[batch.source]
    laws = model.gap_head(before)
    gaps = laws.log_prob(batch.gap.to(hidden.dtype)).sum()
    marks = hidden.new_zeros(())
    if model.mark_head is not None:
        marks = -F.cross_entropy(model.mark_logits(before), batch.target, reduction="sum")
    tails = hidden.new_zeros(())
    if len(batch.tail):
        tails = model.gap_head(hidden[batch.tail_source]).log_survival(batch.tail.to(hidden.dtype)).sum()
    return gaps, marks, tails


def base_log_likelihood(model: EventModel, batch: EventBatch) -> Tensor:
    """The base code's sum over a batch: log p of all gaps but the last, log S of the last, log P of every mark but the
    first (protocol, 1.2)."""
    hidden = model(batch.times, batch.marks, batch.valid).flatten(0, 1)
    before = hidden[batch.source]
    gap_terms, survival = base_terms(model.gap_head(before), batch.gap.to(hidden.dtype))
    total = torch.where(batch.last, survival, gap_terms).sum()
    if model.mark_head is not None:
        total = total - F.cross_entropy(model.mark_logits(before), batch.target, reduction="sum")
    return total


def base_terms(laws: LogNormalMixture, gap: Tensor) -> tuple[Tensor, Tensor]:
    """log p and log S as the base code takes them: 1e-12 added to the gap, 1 - cdf clamped at 1e-5."""
    return laws.log_prob(gap + BASE_GAP), torch.log((1 - laws.cdf(gap + BASE_GAP)).clamp(min=BASE_TAIL))


@torch.no_grad()
def score_model(model: EventModel, batch: EventBatch, base: bool = False) -> Scored:
    """The model's answers about every predicted event of a batch; `base` takes them as the base code does."""
    hidden = model(batch.times, batch.marks, batch.valid).flatten(0, 1)
    before = hidden[batch.source]
    laws = model.gap_head(before)
    gap = batch.gap.to(hidden.dtype)
    log_prob, log_survival = base_terms(laws, gap) if base else (laws.log_prob(gap), laws.log_survival(gap))
    log_mark, hit = (None, None) if model.mark_head is None else _score_marks(model, before, batch.target)
    tail = model.gap_head(hidden[batch.tail_source]).log_survival(batch.tail.to(hidden.dtype))
    mean = laws.mean() - BASE_GAP if base else laws.mean()
    return Scored(log_prob, log_survival, mean, laws.quantile(0.5), log_mark, hit, tail)


def _score_marks(model: EventModel, before: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    size = max(1, _MARK_CHUNK // model.n_marks)
    log_marks, hits = [], []
    for rows, wanted in zip(before.split(size), target.split(size), strict=True):
        logits = model.mark_logits(rows)
        log_marks.append(-F.cross_entropy(logits, wanted, reduction="none"))
        hits.append(logits.argmax(-1) == wanted)
    return torch.cat(log_marks), torch.cat(hits)
