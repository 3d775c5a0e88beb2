"""A stream of events: equal to the parallel form, constant in size, saved and loaded, and strict about its input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tasks.errors import DatasetError
from tasks.events.batch import make_batch, origins
from tasks.events.prequential import score_stream
from tasks.events.scores import Scores
from tasks.events.scoring import score_model
from tasks.events.streaming import EventForecaster


def _long_stream(n, n_marks=4, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.cumsum(rng.exponential(1.6, n))), torch.from_numpy(rng.integers(0, n_marks, n))


@pytest.mark.parametrize(("attention", "n"), [("aaren", 2000), ("transformer", 300)])
def test_steps_equal_the_parallel_form(make_model, attention, n):
    model = make_model(attention=attention)
    times, marks = _long_stream(n)
    times = times - times[0]
    forecaster = EventForecaster(model)
    state = forecaster.initial_state(1)
    sizes, rows = set(), []
    for t, m in zip(times[:, None], marks[:, None], strict=True):
        state, _ = forecaster.step(state, t, m)
        rows.append(state.hidden)
        sizes.add(state.nbytes)
    with torch.no_grad():
        whole = model(times[None], marks[None], torch.ones(1, n, dtype=torch.bool))[0]
    assert torch.allclose(torch.cat(rows), whole, atol=1e-5)
    assert (len(sizes) == 1) == (attention == "aaren")
    if attention == "aaren":
        assert state.nbytes < 2000


@pytest.mark.parametrize("attention", ["aaren", "transformer"])
def test_prequential_scores_equal_batch_scores(make_model, random_sequences, attention):
    model, sequences = make_model(attention=attention), random_sequences(n=9)
    batch = make_batch(sequences, origins(sequences, "window"), np.arange(9))
    measures = []
    for scored in (score_model(model, batch), score_stream(EventForecaster(model), batch)):
        scores = Scores("1", windowed=True)
        scores.add(batch, scored)
        measures.append({name: m.value for name, m in scores.measures().items()})
    for name, value in measures[0].items():
        assert measures[1][name] == pytest.approx(value, rel=1e-5, abs=1e-5), name


def test_polling_between_events_needs_no_network(make_model):
    forecaster = EventForecaster(make_model())
    state, law = forecaster.step(forecaster.initial_state(2), torch.tensor([5.0, 7.0]), torch.tensor([1, 3]))
    forecaster.model.backbone = None  # polling would fail if it looked
    law = forecaster.law(state)
    last = torch.zeros(2)
    for waited in (0.0, 0.1, 2.0, 50.0):
        rest = law.elapsed(torch.full((2,), waited))
        chances = [rest.within(torch.full((2,), h)) for h in (0.5, 5.0, 5000.0)]
        assert (chances[0] <= chances[1]).all()
        assert (chances[1] <= chances[2]).all()
        assert (rest.mean() + waited >= last).all()  # having waited, the expected time of the event only moves on
        last = rest.mean() + waited


def test_entities_are_independent_and_only_active_ones_move(make_model):
    model = make_model()
    forecaster, entities = EventForecaster(model), 300
    times, marks = _long_stream(4 * entities, seed=2)
    times, marks = times.view(entities, 4), marks.view(entities, 4)
    together = forecaster.initial_state(entities)
    rng = np.random.default_rng(0)
    seen = np.zeros(entities, int)
    while (seen < 4).any():  # events of the entities arrive interleaved
        active = torch.from_numpy((rng.random(entities) < 0.5) & (seen < 4))
        rows, at = torch.arange(entities), torch.from_numpy(np.minimum(seen, 3))
        together, _ = forecaster.step(together, times[rows, at], marks[rows, at], active)
        seen += active.numpy()
    one = forecaster.initial_state(1)
    for j in range(4):
        one, _ = forecaster.step(one, times[7:8, j], marks[7:8, j])
    assert torch.allclose(together.select(torch.tensor([7])).hidden, one.hidden, atol=1e-6)
    absorbed = forecaster.absorb(forecaster.initial_state(entities), times, marks)
    assert torch.allclose(absorbed.hidden, together.hidden, atol=1e-5)


def test_saved_state_goes_on_where_it_was(make_model, tmp_path):
    forecaster = EventForecaster(make_model())
    times, marks = _long_stream(20)
    state = forecaster.initial_state(1)
    for j in range(10):
        state, _ = forecaster.step(state, times[j : j + 1], marks[j : j + 1])
    path = tmp_path / "entity.npz"
    state.save(path)
    loaded = forecaster.load(path)
    for j in range(10, 20):
        state, law = forecaster.step(state, times[j : j + 1], marks[j : j + 1])
        loaded, again = forecaster.step(loaded, times[j : j + 1], marks[j : j + 1])
        assert torch.equal(law.gap.means, again.gap.means)
    with pytest.raises(DatasetError, match="no saved stream state"):
        EventForecaster(make_model(n_layers=1)).load(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DatasetError, match="no saved stream state"):
        forecaster.load(path)
    np.savez(path, hidden=np.array([{"a": 1}], dtype=object), origin=np.zeros(1), last=np.zeros(1))
    with pytest.raises(DatasetError, match="no saved stream state"):
        forecaster.load(path)


def test_bad_events_are_refused_by_entity(make_model):
    forecaster = EventForecaster(make_model())
    mark = torch.tensor([0, 0])
    state, _ = forecaster.step(forecaster.initial_state(2), torch.tensor([1.0, 2.0]), mark)
    for bad in (2.0, 1.5, math.nan, math.inf):
        with pytest.raises(ValueError, match="entity 1: time"):
            forecaster.step(state.clone(), torch.tensor([3.0, bad]), mark)
    with pytest.raises(ValueError, match="entity 0: mark 4 outside 0 to 3"):
        forecaster.step(state.clone(), torch.tensor([3.0, 3.0]), torch.tensor([4, 0]))
    with pytest.raises(DatasetError, match="float64"):
        forecaster.step(state.clone(), torch.tensor([1.7e9, 1.7e9]), mark)
    with pytest.raises(ValueError, match="strictly increasing"):
        forecaster.absorb(state, torch.tensor([[3.0, 3.0], [3.0, 4.0]]), torch.zeros(2, 2, dtype=torch.long))


def _drift(make_model, n):
    model = make_model()
    exact = make_model().double()
    states = [EventForecaster(m).initial_state(1) for m in (model, exact)]
    times, marks = _long_stream(n, seed=3)
    for start in range(0, n, 10000):
        part = slice(start, start + 10000)
        states = [
            EventForecaster(m).absorb(s, times[None, part], marks[None, part])
            for m, s in zip((model, exact), states, strict=True)
        ]
    laws = [EventForecaster(m).law(s) for m, s in zip((model, exact), states, strict=True)]
    difference = (laws[0].gap.mean().double() - laws[1].gap.mean()).abs() / laws[1].gap.mean()
    return max(float(difference), float((states[0].hidden.double() - states[1].hidden).abs().max()))


def test_a_hundred_thousand_events_do_not_drift(make_model):
    assert _drift(make_model, 100_000) < 1e-4


@pytest.mark.long
def test_a_million_events_do_not_drift(make_model):
    assert _drift(make_model, 1_000_000) < 1e-4
