"""Scores against an independent few-line computation of the base code's formulas, and against themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tasks.events.batch import make_batch, origins
from tasks.events.scores import Scores, calibration
from tasks.events.scoring import base_log_likelihood, log_likelihood, score_model


def _scores(model, sequences, sizes, base=False, order=None):
    scores = Scores(sequences.unit, windowed=bool(np.isfinite(sequences.window_end).any()))
    origin = origins(sequences, "window")
    order = np.arange(sequences.n_sequences) if order is None else order
    for chunk in np.array_split(order, np.arange(sizes, len(order), sizes)):
        batch = make_batch(sequences, origin, chunk)
        scores.add(batch, score_model(model, batch, base))
    return {name: m.value for name, m in scores.measures().items()}


def _one_by_one(model, sequences):
    """Laws from each sequence alone, event by event, and the formulas of the protocol, section 1.2, in plain loops."""
    time = mark = survival_last = squares = summed = hits = 0.0
    events = predicted = 0
    for s in range(sequences.n_sequences):
        rows = slice(int(sequences.offsets[s]), int(sequences.offsets[s + 1]))
        t, m = torch.tensor(sequences.times[rows])[None], torch.tensor(sequences.marks[rows])[None]
        hidden = model(t, m, torch.ones_like(m, dtype=torch.bool))[0]
        errors = 0.0
        for i in range(1, t.shape[1]):
            law, gap = model.gap_head(hidden[i - 1 : i]), (t[0, i] - t[0, i - 1])[None]
            logits = model.mark_logits(hidden[i - 1 : i])[0]
            if i < t.shape[1] - 1:
                time += float(law.log_prob(gap + 1e-12))
            else:
                survival_last += math.log(max(1 - float(law.cdf(gap + 1e-12)), 1e-5))
            mark += float(torch.log_softmax(logits, 0)[m[0, i]])
            hits += int(logits.argmax()) == int(m[0, i])
            errors += float(law.mean() - 1e-12 - gap)
            squares += float(law.mean() - gap) ** 2
        summed += errors**2
        events += t.shape[1]
        predicted += t.shape[1] - 1
    return {
        "base_nll": -(time + survival_last + mark) / events,
        "base_rmse": math.sqrt(summed / predicted),
        "rmse": math.sqrt(squares / predicted),
        "accuracy": hits / predicted,
    }


@torch.no_grad()
def test_base_bookkeeping_equals_the_formulas_written_out(make_model, random_sequences):
    model, sequences = make_model(plain=True, gap_input=False).double(), random_sequences(n=6, longest=9)
    found, expected = _scores(model, sequences, 4, base=True), _one_by_one(model, sequences)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-9), name
    batch = make_batch(sequences, origins(sequences, "window"), np.arange(6))
    total = -float(base_log_likelihood(model, batch)) / len(sequences.times)
    assert total == pytest.approx(expected["base_nll"], rel=1e-9)


def test_true_and_base_rmse_agree_on_pairs_and_differ_beyond(make_model, make_sequences):
    model = make_model(n_marks=1)
    pairs = make_sequences([[0, 1.0], [0.5, 3.0], [1.0, 1.2]])
    found = _scores(model, pairs, 3)
    assert found["rmse"] == pytest.approx(found["base_rmse"], rel=1e-9)
    longer = _scores(model, make_sequences([[0, 1.0, 9.0, 9.5, 30.0]]), 1)
    assert abs(longer["rmse"] - longer["base_rmse"]) > 0.1


@pytest.mark.parametrize("attention", ["aaren", "transformer"])
def test_batch_size_padding_and_order_change_nothing(make_model, random_sequences, attention):
    model, sequences = make_model(attention=attention), random_sequences(n=23)
    whole = _scores(model, sequences, 23)
    for size in (1, 7, 32):
        for order in (np.arange(23), np.random.default_rng(0).permutation(23)):
            other = _scores(model, sequences, size, order=order)
            assert other.keys() == whole.keys()
            for name, value in whole.items():
                assert other[name] == pytest.approx(value, abs=1e-6, rel=1e-6), name


def test_unit_shifts_nll_by_ln_c_and_scales_errors_by_c(make_model, random_sequences):
    from tasks.events.statistics import gap_statistics

    seconds = random_sequences(n=8)
    c = 3600.0
    scaled = type(seconds)(**{**seconds.__dict__, "times": seconds.times * c, "window_end": seconds.window_end * c})
    fast = _scores(make_model(statistics=gap_statistics(seconds, "")), seconds, 4)
    slow = _scores(make_model(statistics=gap_statistics(scaled, "")), scaled, 4)
    assert slow["nll"] - fast["nll"] == pytest.approx(math.log(c), abs=2e-5)
    for name in ("rmse", "mae"):
        assert slow[name] / fast[name] == pytest.approx(c, rel=1e-4)
    assert slow["accuracy"] == fast["accuracy"]
    assert slow["ks"] == pytest.approx(fast["ks"], abs=1e-5)


def test_training_loss_is_the_scored_likelihood(make_model, random_sequences):
    model, sequences = make_model(), random_sequences(n=9)
    batch = make_batch(sequences, origins(sequences, "window"), np.arange(9))
    with torch.no_grad():
        gaps, marks, tails = (float(v) for v in log_likelihood(model, batch))
    found, n = _scores(model, sequences, 9), len(sequences.times) - 9
    assert -(gaps + marks) / n == pytest.approx(found["nll"], rel=1e-5)
    assert -(gaps + marks + tails) / n == pytest.approx(found["nll_window"], rel=1e-5)
    assert -gaps / n == pytest.approx(found["nll_time"], rel=1e-5)


def test_single_events_are_input_only_and_a_split_of_them_is_refused(make_model, make_sequences):
    model = make_model(n_marks=1)
    mixed, alone = make_sequences([[0, 1.0, 4.0], [2.0]]), make_sequences([[0, 1.0, 4.0]])
    found, expected = _scores(model, mixed, 2), _scores(model, alone, 1)
    assert found["nll"] == pytest.approx(expected["nll"], rel=1e-6)
    assert found["base_nll"] == pytest.approx(expected["base_nll"] * 3 / 4, rel=1e-6)  # the base code counts it
    with pytest.raises(ValueError, match="single event"):
        _scores(model, make_sequences([[1.0], [2.0]]), 2)


def test_capped_sequences_have_no_survival_term(random_sequences):
    sequences = random_sequences(n=4)
    sequences.window_end[2] = np.nan
    batch = make_batch(sequences, origins(sequences, "window"), np.arange(4))
    assert batch.tail_row.tolist() == [0, 1, 3]
    expected = [100 - sequences.times[sequences.offsets[s + 1] - 1] for s in (0, 1, 3)]
    assert batch.tail.tolist() == pytest.approx(expected)


def test_calibration_of_uniform_and_of_skewed_transforms():
    even = calibration((np.arange(1000) + 0.5) / 1000)
    assert even["ks"] == pytest.approx(0.0005)
    assert even["density"] == pytest.approx([1.0] * 20)
    skewed = calibration(np.linspace(0, 1, 1000) ** 2)
    assert skewed["ks"] == pytest.approx(0.25, abs=0.002)
    assert skewed["reached"][-1] == 1.0
