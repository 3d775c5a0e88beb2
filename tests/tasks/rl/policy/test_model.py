"""The model against the base code: its parameter count, its order of tokens, its arithmetic, and what sees what."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tasks.rl.model import DecisionTransformer
from tasks.rl.robots import ROBOTS

PAPER = {"d_model": 128, "n_layers": 3, "n_heads": 1, "d_ff": 512}


@pytest.mark.parametrize(
    ("robot", "counted"),
    [("hopper", 1_123_599), ("halfcheetah", 1_125_912), ("walker2d", 1_125_912), ("ant", 1_150_584)],
)
def test_parameters_are_the_base_codes(robot, counted):
    robot = ROBOTS[robot]

    def parameters(attention):
        zeros = np.zeros(robot.observations)
        model = DecisionTransformer(
            observed=robot.observations, actions=robot.actions, state_mean=zeros, state_std=zeros + 1,
            attention=attention, **PAPER,
        )  # fmt: skip
        return model.base_code_parameters, sum(p.numel() for p in model.parameters())

    (transformer, used), (aaren, _) = parameters("transformer"), parameters("aaren")
    assert transformer == counted
    assert aaren == counted + 3 * 128, "one learned query a layer"
    assert counted - used == 129 * (1 + robot.observations), "the unused heads"


def test_tokens_are_interleaved(model_of, windows):
    model = model_of("aaren")
    model.norm = nn.Identity()
    for marker, embed in enumerate((model.embed_return, model.embed_state, model.embed_action), start=1):
        nn.init.zeros_(embed.weight)
        nn.init.constant_(embed.bias, marker)
    model.embed_time.weight.data[:] = 10.0 * torch.arange(4096)[:, None]
    batch = windows()
    tokens = model.tokens(*batch[:4])
    expected = torch.tensor([1.0, 2.0, 3.0]).repeat(7) + 10.0 * batch.timesteps.repeat_interleave(3, 1)
    assert torch.equal(tokens, expected[..., None].expand_as(tokens))


def literally(model: DecisionTransformer, batch) -> torch.Tensor:
    """The base code's forward pass, written out in float64 with a mask of -inf over all 3K tokens."""
    model = model.double()
    returns, states, actions = (part.double() for part in batch[:3])
    time = model.embed_time(batch.timesteps)
    parts = (model.embed_return(returns) + time, model.embed_state(states) + time, model.embed_action(actions) + time)
    n, steps, width = time.shape
    x = model.norm(torch.stack(parts, 1).permute(0, 2, 1, 3).reshape(n, 3 * steps, width))
    future = torch.ones(3 * steps, 3 * steps, dtype=torch.bool).triu(1)
    for block in model.backbone.blocks:
        heads = block.attention
        query = heads.w_q(heads.query).expand_as(x) if hasattr(heads, "query") else heads.w_q(x)
        scores = query @ heads.w_k(x).transpose(1, 2) / width**0.5
        mixed = scores.masked_fill(future, -torch.inf).softmax(-1) @ heads.w_v(x)
        x = block.norm_attention(x + heads.w_o(mixed))
        x = block.norm_mlp(x + block.down(F.gelu(block.up(x))))
    return torch.tanh(model.head(x.reshape(n, steps, 3, width)[:, :, 1]))


@pytest.mark.parametrize("attention", ["aaren", "transformer"])
def test_equals_the_base_codes_arithmetic(attention, model_of, windows):
    model, batch = model_of(attention), windows()
    with torch.no_grad():
        found = model(batch)
        torch.testing.assert_close(found.double(), literally(model, batch), atol=2e-6, rtol=0)


@pytest.mark.parametrize("attention", ["aaren", "transformer", "mean"])
def test_an_action_sees_everything_before_it_and_nothing_after(attention, model_of, windows):
    model, batch, step = model_of(attention), windows(), 4

    def changed(part: str, at: int) -> torch.Tensor:
        new = getattr(batch, part).clone()
        new[:, at] += 1.0
        with torch.no_grad():
            return model(batch._replace(**{part: new})) - model(batch)

    later = [("actions", step), ("returns_to_go", step + 1), ("states", step + 1), ("actions", step + 1), ("states", 6)]
    for part, at in later:
        assert torch.equal(changed(part, at)[:, : step + 1], torch.zeros(3, step + 1, 3)), f"{part}[{at}] is seen"
    for part, at in [("returns_to_go", step), ("states", step), ("actions", step - 1), ("returns_to_go", 0)]:
        assert changed(part, at)[:, step].abs().min() > 0, f"{part}[{at}] is not seen"


def test_what_is_padded_on_the_right_changes_no_action_before(model_of, windows):
    model, batch = model_of("aaren"), windows()
    short = batch._make(None if part is None else part[:, :4] for part in batch)
    with torch.no_grad():
        torch.testing.assert_close(model(batch)[:, :4], model(short), atol=1e-6, rtol=0)


@pytest.mark.parametrize("attention", ["aaren", "transformer", "mean"])
def test_every_parameter_learns(attention, model_of, windows):
    model = model_of(attention).train()
    batch = windows(batch=8)
    (model(batch) - batch.actions).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if name.endswith("w_k.bias"):
            assert parameter.grad.abs().max() < 1e-7, "softmax cancels the key bias"
        else:
            assert parameter.grad.abs().max() > 0, name


def test_without_mixing_an_action_depends_on_the_state_and_the_time_alone(model_of, windows):
    model, batch = model_of("none"), windows()
    with torch.no_grad():
        actions = model(batch)
        blind = model(batch._replace(returns_to_go=batch.returns_to_go + 1, actions=-batch.actions))
        assert torch.equal(actions, blind)
        for part in ("states", "timesteps"):
            assert (model(batch._replace(**{part: getattr(batch, part) + 1})) - actions).abs().min() > 0


@pytest.mark.parametrize("changes", [{"timesteps": 0}, {"n_heads": 3}, {"norm": "neither"}])
def test_impossible_sizes_are_refused_by_name(changes, model_of):
    with pytest.raises(ValueError, match=next(iter(changes))):
        model_of("aaren", **changes)
