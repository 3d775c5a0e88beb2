"""The law of every registered attention: parallel == step by step == two pieces, causal, exact under masks."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from aaren import Aaren, AarenQueries, Backbone, CausalSelfAttention, attention_names

B, N, D, H = 3, 13, 16, 4
MIXING = [name for name in attention_names() if name != "none"]


def stack(name: str, **options) -> Backbone:
    torch.manual_seed(0)
    sizes = {"d_model": D, "n_layers": 2, "n_heads": H, "d_ff": 32, "dropout": 0.0} | options
    return Backbone(name, **sizes).double().eval()


def tokens(n: int = N) -> torch.Tensor:
    return torch.randn(B, n, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


MASKS = {
    "all": torch.ones(B, N, dtype=torch.bool),
    "right padding": torch.arange(N) < torch.tensor([[13], [5], [1]]),
    "left padding": torch.arange(N) >= torch.tensor([[0], [5], [12]]),
    "holes": torch.arange(N) % torch.tensor([[2], [3], [5]]) != 0,
    "nothing": torch.arange(N) < torch.tensor([[13], [0], [4]]),
}


@pytest.mark.parametrize("name", attention_names())
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(
    "options", [{}, {"norm": "pre"}, {"mask_output": True, "qkv_bias": False, "final_norm": False}]
)
def test_parallel_equals_step_by_step_equals_two_pieces(name, mask, options):
    backbone, x, valid = stack(name, **options), tokens(), MASKS[mask]
    inject = tokens().flip(1) * 0.1
    whole, _ = backbone(x, valid, inject=inject)
    state, outputs = backbone.initial_state(B), []
    for k in range(N):
        y, state = backbone.step(x[:, k], state, valid[:, k], inject[:, k])
        outputs.append(y)
    torch.testing.assert_close(torch.stack(outputs, 1), whole, rtol=1e-9, atol=1e-9)
    for cut in (1, 5, N - 1):
        first, state = backbone(x[:, :cut], valid[:, :cut], inject=inject[:, :cut])
        second, state = backbone(x[:, cut:], valid[:, cut:], state, inject[:, cut:])
        torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", attention_names())
def test_gradients_flow_through_a_carried_state(name):
    backbone, x = stack(name), tokens()
    backbone(x)[0].square().sum().backward()
    whole = {n: p.grad.clone() for n, p in backbone.named_parameters()}
    backbone.zero_grad()
    first, state = backbone(x[:, :6])
    second, _ = backbone(x[:, 6:], state=state)
    torch.cat([first, second], 1).square().sum().backward()
    for n, p in backbone.named_parameters():
        torch.testing.assert_close(p.grad, whole[n], rtol=1e-8, atol=1e-8, msg=n)


@pytest.mark.parametrize("name", attention_names())
def test_causality_is_exact(name):
    backbone, x = stack(name), tokens()
    before, _ = backbone(x)
    for t in (0, 4, N - 1):
        changed = x.clone()
        changed[:, t] += 1.0
        after, _ = backbone(changed)
        assert torch.equal(after[:, :t], before[:, :t])
        assert not torch.allclose(after[:, t], before[:, t])


@pytest.mark.parametrize("name", MIXING)
def test_a_later_output_depends_on_an_earlier_token(name):
    backbone, x = stack(name), tokens().requires_grad_()
    backbone(x)[0][:, -1, 0].sum().backward()  # one feature: a LayerNorm's features sum to a constant
    assert (x.grad[:, 0].abs().sum(-1) > 0).all()


@pytest.mark.parametrize("name", attention_names())
def test_padding_changes_nothing_for_real_tokens(name):
    backbone, x = stack(name), tokens()
    valid = torch.arange(N) < 7
    short, _ = backbone(x[:, :7])
    garbage = x.clone()
    garbage[:, 7:] = 1e6
    padded, _ = backbone(garbage, valid.expand(B, N))
    torch.testing.assert_close(padded[:, :7], short, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", attention_names())
def test_every_parameter_learns_but_the_key_bias(name):
    backbone = stack(name).train()
    weights = torch.randn(B, N, D, dtype=torch.float64)
    (backbone(tokens())[0] * weights).sum().backward()
    for parameter_name, parameter in backbone.named_parameters():
        gradient = parameter.grad
        assert gradient is not None, f"{parameter_name} is not in the graph"
        assert gradient.isfinite().all(), parameter_name
        if parameter_name.endswith("w_k.bias") and name != "aaren_queries":  # there each token's own queries meet it
            assert gradient.abs().max() < 1e-12, "softmax cancels what is added to every score"
        else:
            assert gradient.abs().max() > 1e-9, f"{parameter_name} gets no gradient"


def test_the_folded_query_is_the_literal_module():
    """Scores from projected queries and keys, softmax over every prefix, one token at a time: the paper's words."""
    torch.manual_seed(0)
    module, x = Aaren(D, H).double(), tokens()
    q = module.w_q(module.query).view(H, D // H)
    keys, values = (module.split_heads(w(x)) for w in (module.w_k, module.w_v))
    scores = torch.einsum("hd,bhnd->bhn", q, keys) / math.sqrt(D // H)
    rows = []
    for k in range(1, N + 1):
        weights = scores[..., :k].softmax(-1)
        rows.append(torch.einsum("bhn,bhnd->bhd", weights, values[:, :, :k]))
    literal = module.w_o(torch.stack(rows, 2).transpose(1, 2).flatten(-2))
    torch.testing.assert_close(module(x)[0], literal, rtol=1e-10, atol=1e-10)


def test_parameter_counts_of_the_paper():
    def count(name: str) -> int:
        block = Backbone(name, d_model=512, n_layers=1, n_heads=8, d_ff=2048, final_norm=False)
        return sum(p.numel() for p in block.parameters())

    assert count("transformer") == 3_152_384
    assert count("aaren") == 3_152_896


def test_the_folded_query_follows_its_parameters_in_a_stream():
    module = Aaren(D, H).eval()
    x = torch.randn(2, D)
    with torch.no_grad():
        first = module.scores(x)
        assert torch.equal(module.scores(x), first)
        module.query.add_(1.0)
        assert not torch.allclose(module.scores(x), first)
        module.load_state_dict(Aaren(D, H).state_dict())
        torch.testing.assert_close(module.scores(x), x @ module.fold_query())


@pytest.mark.parametrize("combine", ["learned", "sum", "mean"])
def test_own_queries_are_the_literal_module(combine):
    """Token by token, head by head, query by query; every parameter learns, whatever the combination."""
    torch.manual_seed(0)
    module, x = AarenQueries(D, H, n_queries=3, combine=combine).double(), tokens(4)
    width, literal = D // H, torch.zeros(B, 4, H, dtype=torch.float64)
    for row, i, head in itertools.product(range(B), range(4), range(H)):
        key = module.w_k(x[row, i])[head * width :][:width]
        queries = module.w_q(F.gelu(module.w_hidden(x[row, i]))).view(H, 3, width)[head]
        products = [query.dot(key) / math.sqrt(width) for query in queries]
        if module.weights is not None:
            products = [c * F.gelu(p) for c, p in zip(module.weights[head], products, strict=True)]
        literal[row, i, head] = sum(products) / (3 if combine == "mean" else 1)
    torch.testing.assert_close(module.scores(x), literal, rtol=1e-10, atol=1e-10)
    module(x)[0].square().sum().backward()
    assert all(p.grad.abs().max() > 1e-9 for p in module.parameters())


@pytest.mark.parametrize("wrong", [{"n_queries": 0}, {"combine": "max"}])
def test_impossible_queries_are_named(wrong):
    (option,) = wrong
    with pytest.raises(ValueError, match=f"{option}="):
        AarenQueries(D, H, **wrong)


def test_cache_reuses_its_memory_and_doubles():
    module = CausalSelfAttention(D, H).eval()
    with torch.inference_mode():
        state, sizes = module.initial_state(2), []
        for _ in range(40):
            before = state.keys.data_ptr()
            _, state = module.step(torch.randn(2, D), state)
            sizes.append((state.keys.shape[2], state.keys.data_ptr() != before))
    assert [size for size, _ in sizes] == [16] * 16 + [32] * 16 + [64] * 8
    assert sum(moved for _, moved in sizes) == 2


def test_aaren_state_is_constant_and_float64():
    backbone = Backbone("aaren", d_model=D, n_layers=2, n_heads=H, d_ff=32).eval()
    with torch.inference_mode():
        state = backbone.initial_state(5)
        nbytes = state.nbytes
        assert nbytes == 2 * 5 * (H * 2 + D) * 8
        for _ in range(50):
            _, state = backbone.step(torch.randn(5, D), state)
            assert state.nbytes == nbytes
            assert all(t.dtype == torch.float64 for t in state.tensors)


@pytest.mark.parametrize("name", attention_names())
def test_state_clone_select_and_saved_form(name):
    backbone, x = stack(name), tokens()
    with torch.no_grad():
        _, state = backbone(x[:, :8])
        kept, saved = state.clone(), {k: v.clone() for k, v in state.state_dict().items()}
        rows = state.select([2, 0])
        first, _ = backbone.step(x[:, 8], state)
        again, _ = backbone.step(x[:, 8], kept)
        selected, _ = backbone.step(x[[2, 0], 8], rows)
        _, other = backbone(torch.zeros_like(x[:, :8]))
        restored, _ = backbone.step(x[:, 8], other.load_state_dict(saved))
    assert torch.equal(first, again)
    assert torch.equal(restored, first)
    torch.testing.assert_close(selected, first[[2, 0]], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["aaren", "transformer"])
def test_a_state_of_another_kind_is_refused(name):
    backbone = stack(name)
    state = backbone.initial_state(B)
    with pytest.raises(ValueError, match="2 layers given to one of 3"):
        stack(name, n_layers=3)(tokens(), state=state)
    with pytest.raises(ValueError, match="batch"):
        backbone(tokens(), state=backbone.initial_state(B + 1))
    with pytest.raises(ValueError, match="other layers"):
        state.load_state_dict({})
    half = {k: v.to(torch.float16) for k, v in state.state_dict().items()}
    with pytest.raises(ValueError, match="another kind of backbone"):
        state.load_state_dict(half)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attention": "arren"}, "Did you mean aaren"),
        ({"n_heads": 3}, "n_heads=3 must divide d_model=16"),
        ({"n_layers": 0}, "n_layers=0"),
        ({"d_ff": 0}, "d_ff=0"),
        ({"norm": "middle"}, "norm='middle'"),
        ({"activation": "tanh"}, "activation='tanh'"),
        ({"dropout": 1.0}, "dropout=1.0"),
    ],
)
def test_impossible_options_are_named(options, words):
    good = {"attention": "aaren", "d_model": D, "n_layers": 1, "n_heads": H, "d_ff": 8}
    with pytest.raises(ValueError, match=words):
        Backbone(**(good | options))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"x": torch.zeros(2, 3, D + 1)}, "expected"),
        ({"x": torch.zeros(2, 0, D)}, "no tokens"),
        ({"x": torch.zeros(2, 3, D), "valid": torch.ones(2, 4, dtype=torch.bool)}, "valid has shape"),
        ({"x": torch.zeros(2, 3, D), "valid": torch.ones(2, 3)}, "torch.bool"),
        ({"x": torch.zeros(2, 3, D), "inject": torch.zeros(2, 2, D)}, "inject has shape"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(arguments, words):
    # The check itself: under pytest the shape annotations of `forward` would refuse first, in other words.
    backbone = Backbone("aaren", d_model=D, n_layers=1, n_heads=H, d_ff=8)
    with pytest.raises(ValueError, match=words):
        backbone._check(**({"valid": None, "inject": None, "ndim": 3} | arguments))


@pytest.mark.parametrize("name", ["aaren", "transformer", "mean"])
def test_zero_batch(name):
    y, _ = stack(name)(torch.zeros(0, 4, D, dtype=torch.float64))
    assert y.shape == (0, 4, D)
