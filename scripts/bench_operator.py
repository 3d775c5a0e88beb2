"""The operator against its rivals: time against N, memory kept for the backward, threads, and float32 error."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from bench_common import Row, spread, timed
from torch import Tensor

from aaren.ops import naive, prefix_attention

HEADS, DIM = 8, 64
FAMILIES = [(64, 60), (16, 96), (4, 512), (2, 2048)]  # batch, tokens: the lengths of the four families
LENGTHS = [60, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]  # batch 1
SPREADS = [1, 3, 5, 8, 30, 100, 1000]  # standard deviations of the scores
# batch, heads, tokens: fewer rows than a machine may have threads; the last is the one before in unrelated halves
FEW_ROWS = [(1, 8, 16384), (1, 1, 65536), (1, 2, 32768)]
# Beyond these lengths a rival takes minutes or all memory: (forward, forward and backward).
REACH = {
    "recurrence": (4096, 1024),
    "block_recurrence": (4096, 1024),
    "masked_softmax": (4096, 2048),
    "sdpa": (16384, 16384),
    "hillis_steele": (65536, 16384),
    "associative_scan": (65536, 16384),
}


class Rival(NamedTuple):
    """One way to compute, and the tensors its gradient is for (the values last)."""

    call: Callable[[], Tensor]
    leaves: list[Tensor]
    threads: int = 1


def rivals(
    batch: int, heads: int, tokens: int, dim: int, *, backward: bool, threads: Sequence[int]
) -> dict[str, Rival]:
    """name -> rival; ours once for every number of threads, the slow forms only where they end in reasonable time."""
    scores = torch.randn(batch, heads, tokens, requires_grad=True)
    # Whole, though one query would do: expanded over tokens it makes the fused kernel of SDPA five times slower.
    query, keys, values = (torch.randn(batch, heads, tokens, dim, requires_grad=True) for _ in range(3))
    both, float32 = [scores, values], {"accumulate": torch.float32}
    found = {"copy": Rival(values.clone, [values])}
    for count in threads:
        name = "cpu" if count == 1 else f"cpu, {count} threads"
        found[name] = Rival(lambda: prefix_attention(scores, values, backend="cpu")[0], both, count)
    found["chunked"] = Rival(lambda: prefix_attention(scores, values, backend="chunked")[0], both)
    for name in ("hillis_steele", "recurrence", "block_recurrence", "masked_softmax"):
        found[name] = Rival(partial(_outputs, getattr(naive, name), scores, values, **float32), both)
    found["associative_scan"] = Rival(partial(associative_scan, scores, values), both)
    attend = F.scaled_dot_product_attention
    found["sdpa"] = Rival(lambda: attend(query, keys, values, is_causal=True), [query, keys, values])
    return {name: rival for name, rival in found.items() if tokens <= REACH.get(name, (tokens, tokens))[backward]}


def _outputs(function: Callable[..., tuple[Tensor, Any]], *args: Any, **options: Any) -> Tensor:
    return function(*args, **options)[0]


def associative_scan(scores: Tensor, values: Tensor) -> Tensor:
    """torch's own scan of the paper's operator, in its `generic` mode: the other one needs a GPU."""
    from torch._higher_order_ops.associative_scan import associative_scan as scan

    def combine(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        m = torch.maximum(a[0], b[0])
        left, right = torch.exp(a[0] - m), torch.exp(b[0] - m)
        return m, a[1] * left + b[1] * right, a[2] * left[..., None] + b[2] * right[..., None]

    _, u, w = scan(combine, (scores, torch.ones_like(scores), values), dim=2, combine_mode="generic")
    return w / u[..., None]


def operator_rows(shapes: Sequence[tuple[int, int]], repeats: int, threads: int, heads: int, dim: int) -> Iterator[Row]:
    """Milliseconds of every rival, and the bytes it keeps for its backward over those of the values.

    CPU time; wall time for ours with several threads.
    """
    compile_ours(dim)
    for batch, tokens in shapes:
        for direction in ("forward", "forward+backward"):
            backward = direction != "forward"
            found = rivals(batch, heads, tokens, dim, backward=backward, threads=sorted({1, threads}))
            gradient = torch.randn(batch, heads, tokens, dim)
            make = partial(_differentiated, gradient=gradient) if backward else _undifferentiated
            functions = {name: make(rival) for name, rival in found.items()}
            taken = timed(functions, repeats, {name: rival.threads for name, rival in found.items()})
            copy = spread(taken["copy"])["ms"]
            for name, rival in found.items():
                shape = {"batch": batch, "heads": heads, "tokens": tokens, "dim": dim}
                row = {"method": name, "threads": rival.threads, "direction": direction} | shape | spread(taken[name])
                row["times_copy"] = row["ms"] / copy
                if "sdpa" in taken:
                    row["sdpa_over_it"] = spread(taken["sdpa"])["ms"] / row["ms"]
                if backward:
                    row["saved_over_values"] = saved_bytes(rival.call) / rival.leaves[-1].nbytes
                yield row


def thread_rows(shapes: Sequence[tuple[int, int, int]], repeats: int, threads: int, dim: int) -> Iterator[Row]:
    """Ours and a copy with one thread and with several, in turn, all by wall time."""
    import time

    compile_ours(dim)
    for batch, heads, tokens in shapes:
        scores = torch.randn(batch, heads, tokens, requires_grad=True)
        values, gradient = torch.randn(batch, heads, tokens, dim, requires_grad=True), torch.randn(1, 1, 1, dim)
        gradient = gradient.expand(batch, heads, tokens, dim).contiguous()
        kinds = {"copy": Rival(values.clone, [values])}
        kinds["cpu"] = Rival(lambda s=scores, v=values: prefix_attention(s, v, backend="cpu")[0], [scores, values])
        for direction in ("forward", "forward+backward"):
            make = _undifferentiated if direction == "forward" else partial(_differentiated, gradient=gradient)
            pairs = {f"{kind}/{count}": (kind, count) for kind in kinds for count in (1, threads)}
            functions = {name: make(kinds[kind]) for name, (kind, _) in pairs.items()}
            taken = timed(functions, repeats, {name: count for name, (_, count) in pairs.items()}, time.perf_counter)
            median = {name: spread(times)["ms"] for name, times in taken.items()}
            for name, (kind, count) in pairs.items():
                row = {"method": kind, "threads": count, "direction": direction, "batch": batch, "heads": heads}
                row |= {"tokens": tokens, "dim": dim} | spread(taken[name])
                row["times_copy"] = row["ms"] / median[f"copy/{count}"]
                yield row | {"speed_up_over_1_thread": median[f"{kind}/1"] / row["ms"]}


def compile_ours(dim: int) -> None:
    """Once a machine it takes some seconds, which would pass for those of a slow rival."""
    scores, values = torch.randn(1, 1, 2, requires_grad=True), torch.randn(1, 1, 2, dim, requires_grad=True)
    torch.autograd.grad(prefix_attention(scores, values, backend="cpu")[0].sum(), [scores, values])
    _undifferentiated(Rival(lambda: prefix_attention(scores, values, backend="cpu")[0], [scores, values]))()


def _differentiated(rival: Rival, gradient: Tensor) -> Callable[[], Any]:
    return lambda: torch.autograd.grad(rival.call(), rival.leaves, gradient)


def _undifferentiated(rival: Rival) -> Callable[[], Any]:
    return torch.no_grad()(rival.call)


def saved_bytes(function: Callable[[], Any]) -> int:
    """Bytes of the distinct tensors that a forward call keeps for its backward."""
    held: dict[int, int] = {}

    def pack(tensor: Any) -> Any:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function()
    total = sum(held.values())
    del result
    return total


def error_rows(spreads: Sequence[float] = SPREADS, rows: int = 20, tokens: int = 2048) -> Iterator[Row]:
    """Largest absolute error of float32 inputs against the float64 softmax."""
    for deviation in spreads:
        torch.manual_seed(0)
        scores, values = torch.randn(rows, 1, tokens) * deviation, torch.randn(rows, 1, tokens, 8)
        exact = torch.cat([
            naive.masked_softmax(s[None].double(), v[None].double())[0]
            for s, v in zip(scores, values, strict=True)
        ])  # fmt: skip
        found = {
            "cpu": prefix_attention(scores, values, backend="cpu")[0],
            "chunked": prefix_attention(scores, values, backend="chunked")[0],
            "hillis_steele, float32 sums": naive.hillis_steele(scores, values, accumulate=torch.float32)[0],
            "recurrence, float32 sums": naive.recurrence(scores, values, accumulate=torch.float32)[0],
            "associative_scan, float32 sums": associative_scan(scores, values),
        }
        for name, outputs in found.items():
            error = (outputs.double() - exact).abs().max().item()
            yield {"method": name, "score_std": deviation, "max_abs_error": error}
