"""The network: causal, exactly normalised, every parameter trained, able to overfit; and its stream."""

import pytest
import torch

from tasks.errors import ConfigError
from tasks.forecasting.forecaster import Forecaster, Stationary, TokenEmbedding
from tasks.forecasting.model import Forecasting
from tasks.forecasting.naive import RepeatLast
from tasks.forecasting.stream import ForecastStream
from tasks.positions import sinusoid

HISTORY, HORIZON, CHANNELS, MARKS = 24, 12, 3, 4
MODELS = ("aaren", "transformer")
OPTIM = {"name": "adam", "lr": 3e-3}


def network(attention: str, horizon: int = HORIZON, **sizes) -> Forecaster:
    torch.manual_seed(0)
    defaults = {"d_model": 32, "n_layers": 2, "n_heads": 4, "d_ff": 64, "dropout": 0.0}
    return Forecaster(attention, channels=CHANNELS, marks=MARKS, horizon=horizon, **(defaults | sizes))


def inputs(batch: int = 8, horizon: int = HORIZON) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    series = torch.randn(batch, HISTORY + horizon, CHANNELS, generator=generator) * 2 + 3
    marks = torch.rand(batch, HISTORY + horizon, MARKS, generator=generator) - 0.5
    return series[:, :HISTORY], series[:, HISTORY:], marks


def test_stationarisation_is_undone_exactly_and_uses_the_population_variance():
    history = inputs()[0].double()
    stationary = Stationary(history)
    z = stationary.apply(history)
    torch.testing.assert_close(stationary.undo(z), history, rtol=0, atol=1e-12)
    expected = history.var(1, correction=0)
    torch.testing.assert_close(z.var(1, correction=0), expected / (expected + 1e-5))
    assert z.mean(1).abs().max() < 1e-12


@pytest.mark.parametrize("attention", MODELS)
def test_the_forecast_follows_shift_and_scale_of_the_window(attention):
    model = network(attention).double().eval()
    history, _, marks = (x.double() for x in inputs())
    scale = torch.tensor([4.0, 0.5, 9.0], dtype=torch.float64)
    moved = model(history * scale + 7, marks)
    # The epsilon under the root alone keeps this from being exact.
    torch.testing.assert_close(moved, model(history, marks) * scale + 7, rtol=1e-4, atol=1e-4)


def test_a_constant_window_is_forecast_finitely():
    history, _, marks = inputs()
    assert torch.isfinite(network("aaren")(torch.full_like(history, 3.0), marks)).all()


@pytest.mark.parametrize("step", [0, 1, 7, HISTORY + HORIZON - 2])
def test_embedding_and_stack_see_nothing_that_comes_later(step):
    model = network("transformer")
    z = torch.randn(2, HISTORY + HORIZON, CHANNELS)
    marks = inputs(2)[2]
    changed, changed_marks = z.clone(), marks.clone()
    changed[:, step + 1 :] += 5
    changed_marks[:, step + 1 :] += 5
    tokens, others = (
        model.embedding(model.embedding.nothing_before(z), *pair, 0) for pair in ((z, marks), (changed, changed_marks))
    )
    assert torch.equal(tokens[:, : step + 1], others[:, : step + 1])
    assert not torch.equal(tokens[:, step + 1], others[:, step + 1])
    for attention in MODELS:
        stack = network(attention).backbone.eval()
        assert torch.equal(stack(tokens)[0][:, : step + 1], stack(others)[0][:, : step + 1])


@pytest.mark.parametrize("attention", MODELS)
def test_a_later_mark_changes_no_earlier_forecast(attention):
    model = network(attention).eval()
    history, _, marks = inputs()
    changed = marks.clone()
    changed[:, HISTORY + 5 :] += 1
    before, after = model(history, marks), model(history, changed)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.equal(before[:, 5], after[:, 5])


def test_the_sinusoid_is_the_published_one_and_goes_on():
    whole = sinusoid(0, 200, 6, torch.zeros((), dtype=torch.float64))
    position = torch.tensor(150.0, dtype=torch.float64)
    for pair in range(3):
        angle = position / 10000 ** (2 * pair / 6)
        torch.testing.assert_close(whole[150, 2 * pair : 2 * pair + 2], torch.stack([angle.sin(), angle.cos()]))
    torch.testing.assert_close(sinusoid(150, 50, 6, whole), whole[150:], rtol=0, atol=0)


@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_a_kernel_of_any_width_starts_from_zeros(kernel):
    embedding = TokenEmbedding(CHANNELS, MARKS, 16, kernel, 0.0)
    z = torch.randn(2, 5, CHANNELS)
    tokens = embedding(embedding.nothing_before(z), z, torch.zeros(2, 5, MARKS), 0)
    expected = z[:, 0] @ embedding.values.weight[:, :, -1].T + sinusoid(0, 1, 16, z)
    torch.testing.assert_close(tokens[:, 0], expected)


@pytest.mark.parametrize("attention", MODELS)
def test_every_parameter_gets_a_finite_gradient_that_is_zero_for_the_key_bias_alone(attention):
    model = network(attention)
    history, future, marks = inputs()
    torch.nn.functional.mse_loss(model(history, marks), future).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        size = parameter.grad.abs().max().item()
        # Softmax cancels the key bias; the fused kernel leaves rounding of it.
        assert size < 1e-6 if name.endswith("w_k.bias") else size > 1e-6, (name, size)


@pytest.mark.parametrize("attention", MODELS)
def test_eight_windows_are_learnt_by_heart(attention):
    model = network(attention)
    history, future, marks = inputs()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    while len(losses) < 400 and (not losses or losses[-1] > 0.01 * future.var().item()):
        loss = torch.nn.functional.mse_loss(model(history, marks), future)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] <= 0.01 * future.var().item(), losses[::50]


@pytest.mark.parametrize("attention", MODELS)
def test_the_stream_gives_the_numbers_of_the_parallel_form(attention):
    model = network(attention)
    task = Forecasting(model, horizon=HORIZON, optim=OPTIM, seed=0)
    history, _, marks = inputs()
    stream = task.stream(Stationary(history))
    assert isinstance(stream, ForecastStream)
    assert not model.training
    for t in range(HISTORY):
        stream.absorb(history[:, t], marks[:, t])
        if t == 10:
            stream.forecast(marks[:, 11:20])  # a forecast leaves the stream as it was
    with torch.no_grad():
        expected = model(history, marks)
    for _ in range(2):
        torch.testing.assert_close(stream.forecast(marks[:, HISTORY:]), expected, rtol=0, atol=1e-4)


def test_the_stream_of_aaren_does_not_grow():
    model = network("aaren")
    history, _, marks = inputs()
    stream = Forecasting(model, horizon=HORIZON, optim=OPTIM, seed=0).stream(Stationary(history))
    sizes = []
    for t in range(HISTORY):
        stream.absorb(history[:, t], marks[:, t])
        sizes.append(stream.state.nbytes)
    assert len(set(sizes)) == 1


def test_a_naive_forecaster_has_no_stream():
    task = Forecasting(RepeatLast(HORIZON), horizon=HORIZON, optim=OPTIM, seed=0)
    with pytest.raises(ConfigError, match="no state to stream"):
        task.stream(Stationary(inputs()[0]))
