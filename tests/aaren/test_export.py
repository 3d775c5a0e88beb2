"""The exported step: numbers of torch for every attention and batch size, a state of fixed shape."""

from __future__ import annotations

import builtins
import importlib.util

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

from aaren import Aaren, Backbone, CausalMean, CausalSelfAttention
from aaren.export import BackboneStep, OnnxMissing, OnnxStep, export_step, require_onnx
from aaren.flat import BoundedCache, FlatState, state_grows

SIZES = {"d_model": 16, "n_layers": 2, "n_heads": 4, "d_ff": 32}
CAPACITY = 40


def stack(attention, **options):
    torch.manual_seed(3)
    return Backbone(attention, **SIZES, **options).eval()


@pytest.mark.parametrize("attention", ["aaren", "transformer"])
def test_a_step_gives_torchs_numbers_with_any_number_of_streams(attention):
    backbone = stack(attention)
    step = BackboneStep(backbone, CAPACITY if attention == "transformer" else None)
    model = export_step(step)
    for batch in (1, 3):
        runner, state = OnnxStep(model, step.state, batch), backbone.initial_state(batch)
        for _ in range(CAPACITY):
            x = 3 * torch.randn(batch, 16)  # scores apart, so that the running maximum has work to do
            with torch.no_grad():
                y, state = backbone.step(x, state)
            np.testing.assert_allclose(runner({"x": x.numpy()})["y"], y.numpy(), rtol=0, atol=1e-5)
        assert (runner.state["position"] == CAPACITY).all()
        beyond = runner({"x": np.zeros((batch, 16), np.float32)})["y"]
        if attention == "transformer":
            assert np.isnan(beyond).all(), "past its capacity a stream must not give numbers"
        else:
            assert np.isfinite(beyond).all()
            assert runner.state["layer0.w"].dtype == np.float64


def test_the_file_holds_what_a_step_needs_and_no_trace_of_its_maker():
    backbone = stack("aaren", norm="pre", qkv_bias=False)
    model = export_step(BackboneStep(backbone))
    assert b".py" not in model
    query_and_keys = sum(2 * 16 * 16 * 4 for _ in backbone.blocks)
    weights = sum(p.nbytes for p in backbone.parameters()) - query_and_keys
    assert len(model) < weights + 16_000, "W_q and W_k are folded, and need not be shipped"


def test_later_training_leaves_a_step_as_it_was():
    backbone = stack("aaren")
    step = BackboneStep(backbone)
    x = torch.ones(1, 16)
    before = step(x, *step.start(1))[0]
    with torch.no_grad():
        backbone.blocks[0].attention.w_v.weight.add_(1.0)
    assert torch.equal(step(x, *step.start(1))[0], before)
    assert isinstance(backbone.blocks[0].attention, Aaren)
    assert "project" not in backbone.blocks[0].attention.__dict__


def test_rows_of_a_bounded_cache_have_their_own_age_and_keep_still_when_invalid():
    backbone = stack("transformer")
    flat = FlatState(backbone, 8)
    tokens, valid = torch.randn(6, 2, 16), torch.rand(6, 2) < 0.6
    position = torch.zeros(2, dtype=torch.int64)
    tensors = [port.tensor(2) for port in flat.ports]
    state = backbone.initial_state(2)
    assert isinstance(flat.unflatten(tensors).layers[0], BoundedCache)
    for x, here in zip(tokens, valid, strict=True):
        with torch.no_grad():
            y, after = backbone.step(x, flat.unflatten(tensors), here)
            expected, state = backbone.step(x, state, here)
        position = position + here
        tensors = flat.flatten(after, position)
        torch.testing.assert_close(y[here], expected[here], rtol=0, atol=1e-5)
    assert after.layers[0].position.tolist() == valid.sum(0).tolist()
    with pytest.raises(ValueError, match="one at a time"):
        after.layers[0].append(torch.zeros(2, 4, 2, 4), torch.zeros(2, 4, 2, 4), None)


class Counting(CausalMean):
    """Its state holds a Python number."""

    def initial_state(self, batch):
        return (*super().initial_state(batch), 0)


class Growing(CausalMean):
    """Its state gets longer by itself."""

    def initial_state(self, batch):
        return (torch.zeros(batch, 1),)

    def step(self, x_t, state, valid_t=None):
        return self.w_o(self.w_v(x_t)), (torch.cat([state[0], state[0]], 1),)


def test_a_state_that_cannot_be_flat_is_refused():
    assert state_grows(stack("transformer"))
    assert not state_grows(stack("aaren"))
    with pytest.raises(ValueError, match="grows with the stream: give a capacity"):
        BackboneStep(stack("transformer"))
    with pytest.raises(ValueError, match="capacity=0"):
        BackboneStep(stack("transformer"), 0)
    with pytest.raises(ValueError, match=r"layer0\.3 of the state is a int"):
        BackboneStep(stack(Counting))
    with pytest.raises(ValueError, match="changes its shape"):
        BackboneStep(stack(Growing))


def test_ports_describe_the_start_of_a_stream_in_plain_json():
    step = BackboneStep(stack("aaren"))
    starts = {port["name"]: port["start"] for port in step.describe()["state"]}
    assert (starts["position"], starts["layer1.m"], starts["layer1.w"]) == (0, "-inf", 0.0)
    for port, tensor in zip(step.describe()["state"], step.start(2), strict=True):
        shape = [2, *port["shape"][1:]]
        assert np.array_equal(np.broadcast_to(np.asarray(port["start"], port["dtype"]), shape), tensor.numpy())
    leaves = pytree.tree_leaves(stack("aaren").initial_state(1))
    assert step.describe()["state_bytes_per_stream"] == 8 + sum(t.nbytes for t in leaves)


def test_what_is_not_installed_is_named_with_the_command(monkeypatch):
    present = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "onnx" in name else present(name))
    with pytest.raises(OnnxMissing, match="onnx, onnxscript, onnxruntime: python -m pip install"):
        require_onnx()
    imported = builtins.__import__

    def refuse(name, *rest, **options):
        assert "onnx" not in name, f"{name} imported before it was asked for"
        return imported(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(OnnxMissing):
        export_step(BackboneStep(stack(CausalSelfAttention, dropout=0.0), 4))
