"""The GPU operator against the float64 softmax: on a GPU where there is one, else in Triton's interpreter.

Shapes are small because the interpreter takes milliseconds a chunk; every plan is forced, so that rows walked from end
to end and rows split into segments are both met, with blocks that the tokens and the columns do not fill.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from aaren.ops import PrefixState, cuda, dispatch, initial_prefix_state, prefix_attention
from aaren.ops import plan as plan_module
from aaren.ops.chunked import chunked
from aaren.ops.plan import Plan, plan_for, planned

WHOLE, SPLIT = Plan(chunk=16, columns=4, length=4096), Plan(chunk=16, columns=4, length=32)
PLANS = [pytest.param(WHOLE, id="whole rows"), pytest.param(SPLIT, id="segments")]
Gradients = list[torch.Tensor]


def result(
    backend: str,
    leaves: list[torch.Tensor],
    valid: torch.Tensor | None,
    device: torch.device,
    ties: bool = False,
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Outputs with the last state, and the gradients of a random function of all of them, as float64 on the CPU.

    With `ties` for the largest score m alone has no derivative, but what the triple means, w / u and m + log u, has.
    """
    leaves = [tensor.to(device).detach().requires_grad_() for tensor in leaves]
    state = PrefixState(*leaves[2:]) if len(leaves) > 2 else None
    outputs, last = prefix_attention(*leaves[:2], state, None if valid is None else valid.to(device), backend)
    generator = torch.Generator().manual_seed(0)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    read: tuple[torch.Tensor, ...] = tuple(last)
    if ties:
        read = (last.w / last.u[..., None], last.m + last.u.log())
    for tensor in (outputs, *read) if state is not None else (outputs,):
        weights = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        loss = loss + (tensor.double() * weights.to(device)).sum()
    found = [tensor.detach().cpu().double() for tensor in (outputs, *last)]
    return found, [tensor.cpu().double() for tensor in torch.autograd.grad(loss, leaves)]


def error(ours: torch.Tensor, exact: torch.Tensor) -> float:
    return (ours.double() - exact).abs().max().item()


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("spread", [0, 5, 1000])
def test_outputs_and_gradients_equal_those_of_the_softmax_form(triton_device: torch.device, spread: int, plan: Plan):
    """With a state carried in and out, random masks, odd sizes; 0: every score ties for the maximum."""
    torch.manual_seed(0)
    state = [torch.randn(1, 2), torch.rand(1, 2) + 1, torch.randn(1, 2, 5)]
    inputs = [torch.randn(1, 2, 71) * spread, torch.randn(1, 2, 71, 5), *state]
    valid = torch.rand(1, 71) > 0.3
    cases = [(torch.float32, 3e-6, 1e-5), (torch.float64, 1e-12, 1e-10)]
    with planned(plan):
        for dtype, outputs_bound, bound in cases if spread == 5 else cases[:1]:
            leaves = [tensor.to(dtype) for tensor in inputs[:2]] + [tensor.double() for tensor in state]
            ours, gradients = result("cuda", leaves, valid, triton_device, spread == 0)
            doubles = [tensor.double() for tensor in leaves]
            exact, expected = result("masked_softmax", doubles, valid, triton_device, spread == 0)
            assert error(ours[0], exact[0]) <= outputs_bound
            for one, other in zip(ours[1:], exact[1:], strict=True):
                assert error(one, other) <= bound * max(1.0, other.abs().max().item())
            small = 1e-4 if spread >= 30 and dtype == torch.float32 else 1e-12
            for k, (one, other) in enumerate(zip(gradients, expected, strict=True)):
                # The first state's gradients passed gates near 1, known to their rounding: an absolute error.
                scale = max(other.abs().max().item(), 1.0 if k >= 2 else 0.0)
                assert error(one, other) <= bound * scale + small


@pytest.mark.parametrize(
    ("plan", "spreads"),
    [(Plan(128, 2, 4096), [5, 1000]), (Plan(128, 2, 1024), [8])],
    ids=["whole rows", "segments"],
)
def test_outputs_are_exact_in_float32_at_2048_tokens(triton_device: torch.device, plan: Plan, spreads: list[float]):
    """Each row another spread of scores, or a ramp; `make bench-gpu` checks more of them on a GPU."""
    torch.manual_seed(1)
    ramp = torch.linspace(0, 200, 2048)
    rows = [*(torch.randn(2048) * spread for spread in spreads), ramp if len(spreads) > 1 else ramp.flip(0)]
    scores, values = torch.stack(rows)[None], torch.randn(1, len(rows), 2048, 2)
    exact, _ = prefix_attention(scores.double(), values.double())
    with planned(plan), torch.no_grad():
        outputs, _ = prefix_attention(scores.to(triton_device), values.to(triton_device), backend="cuda")
    assert error(outputs.cpu(), exact) <= 3e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_full(triton_device: torch.device, dtype: torch.dtype):
    torch.manual_seed(2)
    leaves = [(torch.randn(1, 2, 90) * 3).to(dtype), torch.randn(1, 2, 90, 3).to(dtype)]
    with planned(SPLIT):
        ours, gradients = result("cuda", leaves, None, triton_device)
    exact, expected = result("masked_softmax", [tensor.double() for tensor in leaves], None, triton_device)
    assert ((ours[0] - exact[0]).abs() <= torch.finfo(dtype).eps * exact[0].abs() + 3e-6).all()
    for one, other in zip(gradients, expected, strict=True):
        assert error(one, other) <= 4 * torch.finfo(dtype).eps * other.abs().max().item()


@pytest.mark.parametrize("plan", PLANS)
def test_masks_leave_no_trace_of_invalid_tokens(triton_device: torch.device, plan: Plan):
    torch.manual_seed(3)
    index, length = torch.arange(50), 50
    masks = torch.stack([index >= 20, index < 33, (index < 7) | (index >= 40), index < 0])
    scores, values = torch.randn(4, 1, length) * 5, torch.randn(4, 1, length, 2)
    noisy = scores.masked_fill(~masks[:, None], torch.nan).to(triton_device).requires_grad_()
    garbage = values.masked_fill(~masks[:, None, :, None], torch.nan).to(triton_device).requires_grad_()
    with planned(plan):
        outputs, state = prefix_attention(noisy, garbage, valid=masks.to(triton_device), backend="cuda")
        gradients = torch.autograd.grad(outputs.sum() + state.w.sum(), (noisy, garbage))
    exact, _ = prefix_attention(scores.double(), values.double(), valid=masks)
    assert error(outputs.detach().cpu(), exact) <= 1e-6
    for tensor in (outputs, *gradients):
        assert tensor.isfinite().all()
        assert (tensor.transpose(1, 2)[~masks.to(triton_device)] == 0).all()
    for ours, empty in zip(state, initial_prefix_state(1, 1, 2), strict=True):
        assert torch.equal(ours[3:].detach().cpu(), empty)


@pytest.mark.parametrize("plan", PLANS)
def test_pieces_with_carried_state_equal_the_whole_and_the_future_changes_nothing(
    triton_device: torch.device, plan: Plan
):
    torch.manual_seed(4)
    scores, values = torch.randn(1, 1, 70, device=triton_device) * 8, torch.randn(1, 1, 70, 3, device=triton_device)
    with planned(plan):
        whole, last = prefix_attention(scores, values, backend="cuda")
        for k in (1, 16, 45):
            left, middle = prefix_attention(scores[..., :k], values[:, :, :k], backend="cuda")
            right, end = prefix_attention(scores[..., k:], values[:, :, k:], middle, backend="cuda")
            assert error(torch.cat([left, right], 2), whole) <= 3e-6
            torch.testing.assert_close(end.w, last.w, rtol=1e-6, atol=1e-6)
            other_scores, other_values = scores.clone(), values.clone()
            other_scores[..., k:] += 1e4
            other_values[:, :, k:] = -1e6
            after, _ = prefix_attention(other_scores, other_values, backend="cuda")
            assert torch.equal(after[:, :, :k], whole[:, :, :k])


def test_layouts_an_empty_batch_and_uninitialised_memory(triton_device: torch.device):
    torch.manual_seed(5)
    scores, values = torch.randn(2, 2, 20), torch.randn(2, 2, 20, 6)
    exact, expected = result("masked_softmax", [scores.double(), values.double()], None, triton_device)
    layouts = [
        (scores.transpose(1, 2).contiguous().transpose(1, 2), values.transpose(1, 2).contiguous().transpose(1, 2)),
        (torch.cat([scores, scores], 2)[..., :20], values.transpose(2, 3).contiguous().transpose(2, 3)),
    ]
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)  # fills uninitialised memory with NaN
    try:
        with planned(WHOLE):
            for s, v in layouts:
                ours, gradients = result("cuda", [s, v], None, triton_device)
                assert error(ours[0], exact[0]) <= 3e-6
                assert all(error(one, other) <= 1e-5 for one, other in zip(gradients, expected, strict=True))
    finally:
        torch.use_deterministic_algorithms(before)
    none = [torch.zeros(0, 2, 5), torch.zeros(0, 2, 5, 3)]
    assert result("cuda", none, None, triton_device)[0][0].shape == (0, 2, 5, 3)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_score_that_is_no_number_shows_from_there_on(triton_device: torch.device, bad: float):
    scores, values = torch.zeros(1, 1, 40), torch.ones(1, 1, 40, 2)
    scores[..., 20] = bad
    with planned(SPLIT):
        outputs, _ = prefix_attention(scores.to(triton_device), values.to(triton_device), backend="cuda")
    assert outputs[:, :, 20:].isnan().all()
    assert (outputs[:, :, :20] == 1).all()


def test_a_model_compiles_into_one_graph_with_the_kernels(triton_device: torch.device):
    def model(scores: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return prefix_attention(scores * 2, values, backend="cuda")[0].square()

    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    leaves = [torch.randn(1, 1, 9, device=triton_device), torch.randn(1, 1, 9, 2, device=triton_device)]
    leaves = [tensor.requires_grad_() for tensor in leaves]
    expected, ours = model(*leaves), compiled(*leaves)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(
        torch.autograd.grad(ours.sum(), leaves), torch.autograd.grad(expected.sum(), leaves), rtol=1e-5, atol=1e-6
    )


def test_second_derivatives_name_the_backend_that_has_them(triton_device: torch.device):
    scores = torch.randn(1, 1, 5, device=triton_device).requires_grad_()
    outputs, _ = prefix_attention(scores, torch.randn(1, 1, 5, 2, device=triton_device), backend="cuda")
    (first,) = torch.autograd.grad(outputs.square().sum(), scores, create_graph=True)
    with pytest.raises(NotImplementedError, match=r'backend="cuda".*backend="chunked"'):
        first.sum().backward()


def test_backends_refuse_tensors_of_another_device(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cuda, "interpreted", lambda: False)
    with pytest.raises(ValueError, match='backend="cuda" cannot serve tensors on cpu; use backend="auto"'):
        prefix_attention(torch.zeros(1, 1, 2), torch.ones(1, 1, 2, 1), backend="cuda")


@pytest.mark.parametrize("reason", [None, "RuntimeError: no C compiler"])
def test_the_choice_for_cuda_tensors(monkeypatch: pytest.MonkeyPatch, reason: str | None):
    """The kernels where they run; else the chunked form after one warning that names the cause."""
    monkeypatch.setattr(cuda, "failure", lambda dtype, device: reason)
    values = SimpleNamespace(device=torch.device("cuda", 0), dtype=torch.float32)
    dispatch.warn_once.cache_clear()
    try:
        if reason is None:
            assert dispatch._pick("auto", values) is dispatch._pick("cuda", values) is cuda.fused_cuda
            return
        with pytest.warns(RuntimeWarning, match="GPU kernels cannot run here .RuntimeError: no C compiler"):
            assert dispatch._pick("auto", values) is chunked
        assert dispatch._pick("auto", values) is chunked  # a second warning would be an error here
        with pytest.raises(RuntimeError, match=r'cannot run here .*backend="chunked"'):
            dispatch._pick("cuda", values)
    finally:
        dispatch.warn_once.cache_clear()


def test_plans_fill_the_gpu(monkeypatch: pytest.MonkeyPatch):
    """Rows walked whole where there are enough of them; few are cut, into segments of whole chunks that cover all."""
    monkeypatch.setattr(plan_module, "multiprocessors", lambda device: 132)
    for rows, tokens, segments in [(512, 4096, 1), (8, 131_072, 128), (8, 1000, 1), (8, 5000, 9), (64, 16_384, 16)]:
        values = torch.empty(1, rows, tokens, 64, device="meta")
        for backward in (False, True):
            plan = plan_for(values, backward=backward)
            assert plan.length % plan.chunk == 0
            assert -(-tokens // plan.length) == segments
    assert plan_for(torch.empty(1, 8, 100, 3, device="meta")).columns == 4
