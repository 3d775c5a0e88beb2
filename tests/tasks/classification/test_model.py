"""The classifier: causal, indifferent to padding, and the same in one pass, step by step, and at any moment."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tasks.classification.model import CausalClassifier, Majority
from tasks.classification.stream import ClassStream
from tasks.positions import sinusoid

ATTENTIONS = ("aaren", "transformer", "mean", "none")


def network(attention, *, steps=12, reached=12, kernel=3, dropout=0.1, d_model=16):
    torch.manual_seed(3)
    return CausalClassifier(
        channels=3,
        classes=4,
        steps=steps,
        reached=reached,
        attention=attention,
        d_model=d_model,
        n_layers=2,
        n_heads=2,
        d_ff=32,
        dropout=dropout,
        embedding_kernel=kernel,
    )


def series(batch=5, steps=12, seed=1):
    return torch.randn(batch, steps, 3, generator=torch.Generator().manual_seed(seed))


LENGTHS = torch.tensor([12, 7, 1, 11, 12])


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_the_future_changes_no_hidden_state(attention):
    net = network(attention).eval()
    x = series()
    for t in (0, 4, 10):
        changed = x.clone()
        changed[:, t + 1 :] = 100.0 * series(seed=2)[:, t + 1 :]
        first, second = net.hidden(x), net.hidden(changed)
        assert torch.equal(first[:, : t + 1], second[:, : t + 1])
        assert not torch.equal(first[:, t + 1 :], second[:, t + 1 :])


def test_a_look_ahead_or_wrap_around_would_be_noticed():
    """The base code's circular embedding, in place of ours, fails the test above."""
    net = network("aaren").eval()
    x = series()
    weight = net.embed.weight.view(16, 3, 3)  # [d, C, k]
    padded = F.pad(x.transpose(1, 2), (1, 1), mode="circular")
    circular = F.conv1d(padded, weight)
    changed = x.clone()
    changed[:, 5:] = 9.0
    again = F.conv1d(F.pad(changed.transpose(1, 2), (1, 1), mode="circular"), weight)
    assert not torch.equal(circular[..., 4], again[..., 4])  # one step ahead
    assert not torch.equal(circular[..., 0], again[..., 0])  # the end, wrapped around


def test_the_embedding_is_a_left_padded_convolution_and_the_sinusoid():
    net = network("aaren").eval()
    x = series()
    conv = F.conv1d(F.pad(x.transpose(1, 2), (2, 0)), net.embed.weight.view(16, 3, 3)).transpose(1, 2)
    assert torch.allclose(net.tokens(x), conv + sinusoid(0, 12, 16, conv), atol=1e-6)
    assert torch.allclose(
        sinusoid(0, 5, 16, torch.zeros(()))[3, :2],
        torch.tensor([3.0, 3.0]).sin().mul(torch.tensor([1.0, 0.0])) + torch.tensor([0.0, torch.tensor(3.0).cos()]),
    )


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_padding_changes_no_logits(attention):
    net = network(attention).eval()
    x = series()
    whole = net(x, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = net(x[row : row + 1, :length], LENGTHS[row : row + 1])
        assert torch.allclose(alone[0], whole[row], atol=2e-6)
    rubbish = x.clone()
    rubbish[torch.arange(12) >= LENGTHS[:, None]] = 1e6
    assert torch.allclose(net(rubbish, LENGTHS), whole, atol=2e-6)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("kernel", [1, 3])
def test_running_logits_stream_and_flattened_head_agree(attention, kernel):
    net = network(attention, kernel=kernel).eval()
    x = series()
    with torch.no_grad():
        flattened, running = net(x, LENGTHS), net.running_logits(x, LENGTHS)
        assert torch.allclose(running[:, -1], flattened, atol=2e-6)
        stream = ClassStream(net, 5)
        for t in range(12):
            logits = stream.step(x[:, t], valid_t=t < LENGTHS)
            assert torch.allclose(logits, running[:, t], atol=3e-6)
            cut = net(x[:, : t + 1], LENGTHS.clamp(max=t + 1))
            assert torch.allclose(cut, running[:, t], atol=3e-6)


def test_stream_state_of_aaren_does_not_grow():
    net = network("aaren", steps=200, reached=200)
    stream = ClassStream(net, 2)
    sizes = set()
    for x_t in series(2, 200).unbind(1):
        stream.step(x_t)
        sizes.add(stream.state.nbytes)
    assert len(sizes) == 1


def test_a_series_longer_than_the_head_is_an_error():
    net = network("aaren")
    with pytest.raises(ValueError, match="step 13 of a series, but the classifier's head ends at step 12"):
        net(series(steps=13), torch.full((5,), 13))
    stream = ClassStream(net, 5)
    for x_t in series().unbind(1):
        stream.step(x_t)
    with pytest.raises(ValueError, match="step 13"):
        stream.step(series()[:, 0])


def test_stream_refuses_wrong_shapes():
    net = network("aaren")
    with pytest.raises(ValueError, match="batch=0"):
        ClassStream(net, 0)
    with pytest.raises(ValueError, match=r"\(1, 3\), not \(2, 3\)"):
        ClassStream(net, 2).step(series()[:1, 0])


@pytest.mark.parametrize("attention", ["aaren", "transformer"])
def test_every_parameter_gets_a_finite_non_zero_gradient(attention):
    net = network(attention, dropout=0.0)
    lengths = torch.full((5,), 12)  # full length: otherwise the head's last columns rightly get none
    F.cross_entropy(net(series(), lengths), torch.tensor([0, 1, 2, 3, 0])).backward()
    exact_zero = []
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        if not parameter.grad.abs().max() > 1e-9:
            exact_zero.append(name)
    # The softmax cancels the key's bias: its gradient is zero (up to rounding, where it is not folded away).
    assert all("k" in name.split(".")[-2] and name.endswith("bias") for name in exact_zero), exact_zero
    assert len(exact_zero) <= 2


def test_head_columns_that_no_training_series_reaches_start_at_zero():
    net = network("aaren", reached=7)
    assert (net.step_weights()[:, 7:] == 0).all()
    assert (net.step_weights()[:, :7] != 0).all()
    net.eval()
    lengths = torch.full((5,), 12)
    assert torch.allclose(net(series(), lengths), net(series()[:, :7], lengths.clamp(max=7)), atol=1e-6)


def test_models_differ_by_their_learned_queries_alone():
    counts = {name: sum(p.numel() for p in network(name).parameters()) for name in ("aaren", "transformer")}
    assert counts["aaren"] - counts["transformer"] == 2 * 16  # one query of d_model in each of two layers


def test_majority_knows_the_training_frequencies():
    net = Majority(torch.tensor([3, 7, 0]))
    logits = net(series(), LENGTHS)
    assert logits.argmax(1).tolist() == [1] * 5
    assert torch.allclose(logits[0].exp(), torch.tensor([4.0, 8.0, 1.0]) / 13)
    assert torch.equal(net.running_logits(series(), LENGTHS)[:, -1], logits)
