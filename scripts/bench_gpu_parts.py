"""What `bench_gpu` checks and measures on the GPU: parity, the operator against a copy, training steps, streams.

Every time is of work queued on the GPU, the cache emptied between calls. Bytes count each input read once and each
output written once, whatever the kernels do; `of_copy` is their rate over that of copying the values alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from bench_common import Row
from bench_training import Size
from torch import Tensor

from aaren import Backbone
from aaren.ops import PrefixState, prefix_attention
from aaren.ops.plan import Plan, plan_for, planned

Clock = Callable[[Callable[[], Any]], list[float]]  # -> milliseconds: median, lower and upper quartile
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
SHAPES = [(2, 4, 2048, 64), (3, 2, 1000, 33), (1, 1, 70_000, 128), (64, 8, 60, 16), (1, 2, 1, 1)]
SPREADS = (1.0, 5.0, 30.0, 1000.0)
LONG = 10_000_000


def gpu_clock(function: Callable[[], Any]) -> list[float]:
    from triton.testing import do_bench

    quantiles: Any = do_bench(function, warmup=50, rep=200, quantiles=[0.5, 0.25, 0.75])
    return list(quantiles)


def times(clock: Clock, function: Callable[[], Any]) -> Row:
    median, low, high = clock(function)
    return {"ms": median, "ms_q1": low, "ms_q3": high}


def _results(leaves: list[Tensor], valid: Tensor, device: str, backend: str) -> list[Tensor]:
    """Outputs, last state and gradients of a random function of them, as float64 on the CPU."""
    leaves = [tensor.to(device).requires_grad_() for tensor in leaves]
    outputs, last = prefix_attention(leaves[0], leaves[1], PrefixState(*leaves[2:]), valid.to(device), backend)
    generator = torch.Generator().manual_seed(1)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    for tensor in (outputs, *last):
        weights = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        loss = loss + (tensor.double() * weights.to(device)).sum()
    found = [outputs, *last, *torch.autograd.grad(loss, leaves)]
    return [tensor.detach().double().cpu() for tensor in found]


def parity_rows(shapes: Sequence[tuple[int, int, int, int]], device: str) -> Iterator[Row]:
    """Worst errors against the float64 kernels of the CPU, with random masks and a carried state."""
    names = ("outputs", "m", "u", "w", "d_scores", "d_values", "d_m", "d_u", "d_w")
    for (batch, heads, tokens, dim), spread, (name, dtype) in product(shapes, SPREADS, DTYPES.items()):
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int, g: torch.Generator = generator) -> Tensor:
            return torch.randn(shape, generator=g, dtype=torch.float64)

        inputs = [(draw(batch, heads, tokens) * spread).to(dtype), draw(batch, heads, tokens, dim).to(dtype)]
        state = [draw(batch, heads) * spread, draw(batch, heads).abs() + 1, draw(batch, heads, dim)]
        valid = draw(batch, tokens) > -0.5
        exact = _results([tensor.double() for tensor in inputs] + state, valid, "cpu", "cpu")
        found = _results(inputs + state, valid, device, "cuda")
        single = 1e-12 if dtype == torch.float64 else 3e-6
        rounding = torch.finfo(dtype).eps if dtype in (torch.float16, torch.bfloat16) else 0.0
        for what, ours, theirs in zip(names, found, exact, strict=True):
            error, largest = (ours - theirs).abs().max().item(), theirs.abs().max().item()
            bound = single * max(1.0, largest) + rounding * largest
            if what.startswith("d_"):
                steep = 1e-4 if spread >= 30 and dtype != torch.float64 else 1e-12
                # What passes a gate near 1 is known to the gate's rounding: an absolute error.
                bound = (10 * single + 4 * rounding) * max(1.0, largest) + steep
            row = {"check": what, "dtype": name, "batch": batch, "heads": heads, "tokens": tokens, "dim": dim}
            yield row | {"score_std": spread, "error": error, "bound": bound, "holds": error <= bound}


def stream_error_rows(tokens: int, block: int, device: str) -> Iterator[Row]:
    """A mean over very many tokens, carried from call to call and in one call: error relative to the largest value."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(1, 1, tokens, 2, generator=generator) + 1
    exact = values[0, 0].double().cumsum(0) / torch.arange(1, tokens + 1)[:, None]
    scores, values = torch.full((1, 1, tokens), 3.0, device=device), values.to(device)
    for name, size in (("carried", block), ("in one call", tokens)):
        state, error = None, 0.0
        for first in range(0, tokens, size):
            part = slice(first, first + size)
            outputs, state = prefix_attention(scores[..., part], values[:, :, part], state, backend="cuda")
            error = max(error, (outputs[0, 0].double().cpu() - exact[part]).abs().max().item())
        error /= values.abs().max().item()
        row = {"check": f"mean, {name}", "dtype": "float32", "batch": 1, "heads": 1, "tokens": tokens, "dim": 2}
        yield row | {"score_std": 0.0, "error": error, "bound": 1e-4, "holds": error <= 1e-4}


def operator_rows(
    shapes: Sequence[tuple[int, int, int]], dims: Sequence[int], dtypes: Sequence[str], clock: Clock, device: str
) -> Iterator[Row]:
    """Forward without gates (inference), with gates (training) and backward, each beside a copy of the values."""
    for (batch, heads, tokens), dim, name in product(shapes, dims, dtypes):
        scores = torch.randn(batch, heads, tokens, device=device, dtype=DTYPES[name]).requires_grad_()
        values = torch.randn(batch, heads, tokens, dim, device=device, dtype=DTYPES[name]).requires_grad_()
        copy = times(clock, values.detach().clone)
        copied = 2 * values.nbytes / copy["ms"]
        yield from _directions(scores, values, name, copied, clock)


def _directions(scores: Tensor, values: Tensor, name: str, copied: float, clock: Clock) -> Iterator[Row]:
    batch, heads, tokens, dim = values.shape

    def run() -> Tensor:
        return prefix_attention(scores, values, backend="cuda")[0]

    outputs = run()
    gradient = torch.randn_like(values)
    functions: dict[str, tuple[Callable[[], Any], int]] = {
        "forward": (torch.no_grad()(run), 2 * values.nbytes + scores.nbytes),
        "forward, training": (run, 2 * values.nbytes + scores.nbytes),
        "backward": (
            lambda: torch.autograd.grad(outputs, (scores, values), gradient, retain_graph=True),
            4 * values.nbytes + 2 * scores.nbytes,
        ),
    }
    for direction, (function, moved) in functions.items():
        plan = plan_for(values, backward=direction == "backward")
        row = {"direction": direction, "dtype": name, "batch": batch, "heads": heads, "tokens": tokens, "dim": dim}
        row |= {"MB": values.nbytes / 1e6, "segments": -(-tokens // plan.length)} | times(clock, function)
        row["GB_s"], row["copy_GB_s"] = moved / row["ms"] / 1e6, copied / 1e6
        yield row | {"of_copy": moved / row["ms"] / copied}


def plan_rows(shapes: Sequence[tuple[int, int, int]], dim: int, name: str, clock: Clock, device: str) -> Iterator[Row]:
    """Other plans than the one the operator makes for itself: is a better one missed?"""
    for batch, heads, tokens in shapes:
        values = torch.randn(batch, heads, tokens, dim, device=device, dtype=DTYPES[name]).requires_grad_()
        scores = torch.randn(batch, heads, tokens, device=device, dtype=DTYPES[name]).requires_grad_()
        lengths = [tokens, *(n for n in (512, 1024, 2048, 4096, 8192) if n < tokens and tokens // n <= 256)]
        plans = [
            Plan(chunk, columns, length, warps, stages)
            for chunk, columns, length, warps, stages in product((16, 32, 64), (32, 64), lengths, (1, 2, 4), (2, 3, 4))
            if columns <= dim and 1024 <= chunk * columns <= 2048 * warps
        ]
        copied = 2 * values.nbytes / times(clock, values.detach().clone)["ms"]
        for plan in [None, *plans]:
            chosen = {} if plan is None else vars(plan)
            try:
                if plan is None:
                    rows = list(_directions(scores, values, name, copied, clock))
                else:
                    with planned(plan):
                        rows = list(_directions(scores, values, name, copied, clock))
            except Exception as error:  # a plan that does not fit the chip's shared memory, say
                print(f"{plan}: {type(error).__name__}: {str(error).splitlines()[0]}")
                continue
            yield from (row | {"plan": "own" if plan is None else "tried"} | chosen for row in rows)


def sdpa_rows(tokens: Sequence[int], heads: int, dim: int, clock: Clock, device: str) -> Iterator[Row]:
    """Causal SDPA forward over ours, bfloat16, the same heads and values."""
    for count in tokens:
        query, keys, values = torch.randn(3, 1, heads, count, dim, device=device, dtype=torch.bfloat16)
        scores = torch.randn(1, heads, count, device=device, dtype=torch.bfloat16)
        sdpa = times(clock, lambda q=query, k=keys, v=values: F.scaled_dot_product_attention(q, k, v, is_causal=True))
        ours = times(clock, lambda s=scores, v=values: prefix_attention(s, v, backend="cuda"))
        for method, row in (("sdpa", sdpa), ("cuda", ours)):
            yield (
                {"method": method, "tokens": count, "heads": heads, "dim": dim}
                | row
                | {"sdpa_over_it": sdpa["ms"] / row["ms"]}
            )


def training_rows(sizes: Sequence[Size], clock: Clock, device: str) -> Iterator[Row]:
    """Forward and backward of the stack under bfloat16 autocast; `speed_up`: the Transformer's time over this one's."""
    for size in sizes:
        x = torch.randn(size.batch, size.tokens, size.d_model, device=device)
        found = {}
        for attention in ("aaren", "transformer"):
            model = Backbone(
                attention=attention, d_model=size.d_model, n_layers=size.layers, n_heads=size.heads, d_ff=size.d_ff
            ).to(device)

            def step(model: Backbone = model, x: Tensor = x) -> None:
                model.zero_grad(set_to_none=True)
                with torch.autocast(torch.device(device).type, torch.bfloat16):
                    loss = model(x)[0].float().square().mean()
                loss.backward()

            found[attention] = times(clock, step)
        for attention, row in found.items():
            shape = {key: value for key, value in size._asdict().items() if key != "name"}
            yield (
                {"size": size.name, "model": attention}
                | shape
                | row
                | {"speed_up": found["transformer"]["ms"] / row["ms"]}
            )


def step_rows(streams: Sequence[int], clock: Clock, device: str) -> Iterator[Row]:
    """Tokens a second of one layer of the paper's block, by the number of streams stepped together."""
    model = Backbone(attention="aaren", d_model=512, n_layers=1, n_heads=8, d_ff=2048).to(device).eval()
    for count in streams:
        x = torch.randn(count, 512, device=device)
        with torch.inference_mode():
            _, state = model.step(x, model.initial_state(count))
            row = times(clock, lambda x=x, state=state: model.step(x, state))
        yield {"model": "aaren", "streams": count} | row | {
            "tokens_s": count / row["ms"] * 1e3, "state_bytes_per_stream": state.nbytes / count
        }  # fmt: skip
