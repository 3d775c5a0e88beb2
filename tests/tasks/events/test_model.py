"""The event model: causality, parity with itself alone, gradients, and that it can learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.events.batch import make_batch, origins
from tasks.events.model import TimeCode
from tasks.events.scoring import log_likelihood
from tasks.events.statistics import GapStatistics

ATTENTIONS = ("aaren", "transformer")


def _batch(sequences, rows=None):
    rows = np.arange(sequences.n_sequences) if rows is None else rows
    return make_batch(sequences, origins(sequences, "window"), rows)


def test_time_code_is_the_base_codes_and_exact_far_out():
    code, d = TimeCode(8), 8
    t = torch.tensor([0.0, 1.5, 1.7e9 + 0.25], dtype=torch.float64)
    found = code(t)
    for i in range(d):
        angle = t.numpy() / 10000 ** (2 * (i // 2) / d)
        assert found[:, i].numpy() == pytest.approx(np.sin(angle) if i % 2 == 0 else np.cos(angle), abs=2e-6)
    with pytest.raises(ValueError, match="d_model=7"):
        TimeCode(7)


@pytest.mark.parametrize("attention", ATTENTIONS)
@torch.no_grad()
def test_changing_event_j_leaves_predictions_up_to_j_untouched(make_model, random_sequences, attention):
    model, batch = make_model(attention=attention), _batch(random_sequences(n=3))
    before = model(batch.times, batch.marks, batch.valid)
    j = 5
    times, marks = batch.times.clone(), batch.marks.clone()
    times[:, j] += 0.5 * (times[:, j + 1] - times[:, j]).clamp(min=0)
    marks[:, j] = (marks[:, j] + 1) % 4
    after = model(times, marks, batch.valid)
    assert torch.equal(before[:, :j], after[:, :j])  # the law of event j comes from row j - 1
    assert not torch.allclose(before[:, j], after[:, j])


@pytest.mark.parametrize("attention", ATTENTIONS)
@torch.no_grad()
def test_a_sequence_alone_equals_the_same_sequence_padded(make_model, random_sequences, attention):
    model, sequences = make_model(attention=attention), random_sequences(n=5)
    batch = _batch(sequences)
    hidden = model(batch.times, batch.marks, batch.valid)
    for s in range(5):
        alone = _batch(sequences, np.array([s]))
        own = model(alone.times, alone.marks, alone.valid)[0]
        assert torch.allclose(hidden[s, : own.shape[0]], own, atol=1e-5)
    assert (hidden[~batch.valid] == 0).all()


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_every_parameter_learns(make_model, random_sequences, attention):
    model = make_model(attention=attention).train()
    sum(log_likelihood(model, _batch(random_sequences(n=6)))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_eight_sequences_are_learnt_by_heart(make_model, make_sequences, attention):
    """Gaps that only the history tells, marks in a fixed order: the likelihood of both rises far above chance."""
    pattern = np.array([0.1, 0.1, 5.0, 0.4])
    times = [np.cumsum(np.roll(np.tile(pattern, 5), s)) for s in range(8)]
    marks = [np.roll(np.tile(np.arange(4), 5), s) for s in range(8)]
    sequences = make_sequences(times, marks, n_marks=4)
    model = make_model(attention=attention, statistics=GapStatistics(-0.8, 1.6, 0.25), d_model=32, d_ff=32).train()
    optimiser, batch = torch.optim.Adam(model.parameters(), lr=8e-3), _batch(sequences)
    n = len(batch.gap)
    for _ in range(250):
        gaps, mark, _ = log_likelihood(model, batch)
        optimiser.zero_grad()
        (-(gaps + mark) / n).backward()
        optimiser.step()
    gaps, mark, _ = (float(v.detach()) / n for v in log_likelihood(model.eval(), batch))
    assert mark > -0.05
    assert gaps > 1.5  # a static log-normal has -1.0; the floor of sigma, 0.02, would allow 3.4


def test_sigma_keeps_its_floor_and_cap(make_model):
    model = make_model(statistics=GapStatistics(0.0, 1.0, 1.0, grid=0.5), sigma_cap=2.0)
    with torch.no_grad():
        model.gap_head.out.bias += torch.randn(24) * 100
        sigmas = model.gap_head(torch.randn(50, 16) * 100).sigmas
    assert float(sigmas.min()) == pytest.approx(0.25)  # half a grid step at the median gap of one
    assert float(sigmas.max()) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="sigma_cap"):
        make_model(sigma_cap=0.1, sigma_floor=0.2)
    with pytest.raises(ValueError, match="components=0"):
        make_model(components=0)


def test_parameter_counts_differ_by_the_queries_alone(make_model):
    counts = {a: sum(p.numel() for p in make_model(attention=a).parameters()) for a in ATTENTIONS}
    assert counts["aaren"] - counts["transformer"] == 2 * 16
