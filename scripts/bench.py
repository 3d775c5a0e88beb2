"""How fast, how small and how exact: the operator against its rivals, and the Aaren stack against the Transformer.

Times are medians of CPU time of the calling thread (wall time with several threads) in one run; read the ratios.
Freed memory is kept by the process, so that no rival pays for fresh pages from the operating system.
"""

from __future__ import annotations

import csv
import ctypes
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from machine import described

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

Threads = Annotated[int, typer.Option(min=1, help="CPU threads")]
Repeats = Annotated[int, typer.Option(min=1, help="measurements; the median counts")]
Out = Annotated[Path | None, typer.Option(help="folder for the CSV, e.g. results/efficiency")]

SHAPES = [(64, 60), (16, 96), (4, 512), (2, 2048), (1, 16384)]  # batch, tokens; 8 heads, 64 values a head
SPREADS = [1, 3, 5, 8, 30, 100, 1000]  # standard deviations of the scores
# Paper sizes of the four families: batch, tokens, d_model, d_ff, layers, heads
STACKS = {
    "rl": (64, 60, 128, 512, 3, 1),
    "forecasting": (32, 288, 512, 2048, 2, 8),
    "forecasting, d 128": (32, 288, 128, 256, 2, 8),
    "JapaneseVowels": (16, 29, 128, 256, 3, 8),
    "SelfRegulationSCP1": (16, 896, 128, 256, 3, 8),
    "events": (16, 70, 64, 64, 2, 1),
}


def timed(functions: dict[str, Callable[[], Any]], repeats: int, threads: int) -> dict[str, list[float]]:
    """Milliseconds of each, taken in turn so that a busy moment of the machine meets them all.

    The quick ones get an untimed call first: what the rival before left in the caches is not theirs.
    """
    clock = time.thread_time if threads == 1 else time.perf_counter
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for name, function in functions.items():
        start = clock()
        function()  # compiles, fills caches, and tells how often the slow ones can be afforded
        taken[name].append((clock() - start) * 1e3)
    first = {name: times.pop() for name, times in taken.items()}
    for turn in range(repeats):
        for name, function in functions.items():
            if turn >= 3 and first[name] > 1000:
                continue
            if first[name] < 100:
                function()
            start = clock()
            function()
            taken[name].append((clock() - start) * 1e3)
    return taken


def saved_bytes(function: Callable[[], Any]) -> int:
    """Bytes of the distinct tensors that a forward call keeps for its backward."""
    import torch

    held: dict[int, int] = {}

    def pack(tensor: Any) -> Any:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function()
    total = sum(held.values())
    del result
    return total


@app.command()
def operator(threads: Threads = 1, repeats: Repeats = 15, heads: int = 8, dim: int = 64, out: Out = None) -> None:
    """Prefix attention: forward and forward+backward, memory saved for backward, float32 error."""
    import torch

    prepare(threads)
    rows = []
    for batch, tokens in SHAPES:
        rivals = methods(batch, heads, tokens, dim)
        gradient = torch.randn(batch, heads, tokens, dim)
        forward = {name: no_gradient(call) for name, (call, _) in rivals.items()}
        both = {name: partial(with_gradient, call, leaves, gradient) for name, (call, leaves) in rivals.items()}
        for direction, functions in (("forward", forward), ("forward+backward", both)):
            taken = timed(functions, repeats, threads)
            median = {name: statistics.median(times) for name, times in taken.items()}
            for name, times in taken.items():
                row = {"method": name, "batch": batch, "heads": heads, "tokens": tokens, "dim": dim}
                row |= {"direction": direction, "ms": median[name], "ms_min": min(times), "runs": len(times)}
                row |= {"times_copy": median[name] / median["copy"], "sdpa_over_it": median["sdpa"] / median[name]}
                call, leaves = rivals[name]
                if direction != "forward":
                    row["saved_over_values"] = saved_bytes(call) / leaves[-1].nbytes
                rows.append(row)
    report("operator", rows, threads, out)
    report("operator-error", list(errors()), threads, out)


def methods(batch: int, heads: int, tokens: int, dim: int) -> dict[str, tuple[Callable[[], Any], list[Any]]]:
    """name -> (forward call, its inputs, values last); the slow forms only where they end in reasonable time."""
    import torch

    from aaren.ops import naive, prefix_attention

    scores = torch.randn(batch, heads, tokens, requires_grad=True)
    values = torch.randn(batch, heads, tokens, dim, requires_grad=True)
    keys = torch.randn(batch, heads, tokens, dim, requires_grad=True)
    # Whole, though one query would do: expanded over tokens it makes the fused kernel five times slower.
    query = torch.randn(batch, heads, tokens, dim, requires_grad=True)
    single: dict[str, Any] = {"accumulate": torch.float32}
    attention = torch.nn.functional.scaled_dot_product_attention
    found: dict[str, tuple[Callable[[], Any], list[Any]]] = {
        "copy": (values.clone, [values]),
        "cpu": (lambda: prefix_attention(scores, values, backend="cpu")[0], [scores, values]),
        "chunked": (lambda: prefix_attention(scores, values, backend="chunked")[0], [scores, values]),
        "hillis_steele": (lambda: naive.hillis_steele(scores, values, **single)[0], [scores, values]),
        "sdpa": (lambda: attention(query, keys, values, is_causal=True), [query, keys, values]),
    }
    if tokens <= 512:
        found["recurrence"] = (lambda: naive.recurrence(scores, values, **single)[0], [scores, values])
        found["block_recurrence"] = (lambda: naive.block_recurrence(scores, values, **single)[0], [scores, values])
        found["masked_softmax"] = (lambda: naive.masked_softmax(scores, values, **single)[0], [scores, values])
    return found


def with_gradient(call: Callable[[], Any], leaves: list[Any], gradient: Any) -> None:
    import torch

    torch.autograd.grad(call(), leaves, gradient)


def no_gradient(call: Callable[[], Any]) -> Callable[[], Any]:
    import torch

    return torch.no_grad()(call)


def errors() -> Iterable[dict[str, Any]]:
    """Largest absolute error of float32 inputs against the float64 softmax, 20 rows of 2,048 tokens."""
    import torch

    from aaren.ops import naive, prefix_attention

    for spread in SPREADS:
        torch.manual_seed(0)
        scores, values = torch.randn(20, 1, 2048) * spread, torch.randn(20, 1, 2048, 8)
        exact = torch.cat([
            naive.masked_softmax(s[None].double(), v[None].double())[0]
            for s, v in zip(scores, values, strict=True)
        ])  # fmt: skip
        rivals = {
            "cpu": prefix_attention(scores, values, backend="cpu")[0],
            "chunked": prefix_attention(scores, values, backend="chunked")[0],
            "hillis_steele, float32 sums": naive.hillis_steele(scores, values, accumulate=torch.float32)[0],
            "recurrence, float32 sums": naive.recurrence(scores, values, accumulate=torch.float32)[0],
        }
        for name, outputs in rivals.items():
            error = (outputs.double() - exact).abs().max().item()
            yield {"method": name, "score_std": spread, "max_abs_error": error}


@app.command()
def train_step(threads: Threads = 1, repeats: Repeats = 9, out: Out = None) -> None:
    """Forward and backward of the whole stack, Aaren against the Transformer, at each family's paper size."""
    import torch

    from aaren import Backbone

    prepare(threads)
    rows = []
    for name, (batch, tokens, d_model, d_ff, layers, heads) in STACKS.items():
        x = torch.randn(batch, tokens, d_model)
        gradient = torch.randn_like(x)
        functions: dict[str, Callable[[], Any]] = {}
        for attention in ("aaren", "transformer"):
            model = Backbone(attention=attention, d_model=d_model, n_layers=layers, n_heads=heads, d_ff=d_ff)

            def step(model: Any = model, x: Any = x, gradient: Any = gradient) -> None:
                model.zero_grad(set_to_none=True)
                model(x)[0].backward(gradient)

            functions[attention] = step
        taken = timed(functions, repeats, threads)
        median = {attention: statistics.median(times) for attention, times in taken.items()}
        row = {"size": name, "batch": batch, "tokens": tokens, "d_model": d_model, "d_ff": d_ff}
        row |= {"layers": layers, "heads": heads, "aaren_ms": median["aaren"], "transformer_ms": median["transformer"]}
        rows.append(row | {"speed_up": median["transformer"] / median["aaren"], "runs": repeats})
    report("train-step", rows, threads, out)


@app.command()
def events(share: float = 0.25, entities: int = 1000, steps: int = 100, out: Out = None) -> None:
    """Events a CPU-second in training (a StackOverflow epoch, paper size) and streaming, beside the naive encoder."""
    from tasks.events import speed

    prepare(1)
    data, rows = speed.stackoverflow(), []
    rivals: list[tuple[str, Any, bool]] = [("aaren", "aaren", True), ("transformer", "transformer", True)]
    rivals += [("naive softmax, row order", speed.NaiveCausalSoftmax, False)]
    for name, attention, bucketed in rivals:
        rows.append({"model": name} | speed.train_rate(data, attention, bucketed=bucketed, share=share))
    for row in rows:
        row["naive_over_it"] = rows[-1]["epoch_cpu_s"] / row["epoch_cpu_s"]
    report("events-training", rows, 1, out)
    streams = [{"model": m} | speed.stream_rate(m, entities=entities, steps=steps) for m in ("aaren", "transformer")]
    report("events-streaming", streams, 1, out)


@app.command()
def params() -> None:
    """Parameters of one layer of the paper's block (d 512, d_ff 2048, 8 heads): the two counts it prints."""
    from aaren import Backbone

    for attention in ("transformer", "aaren"):
        model = Backbone(attention=attention, d_model=512, n_layers=1, n_heads=8, d_ff=2048, final_norm=False)
        print(f"{attention:12s} {sum(p.numel() for p in model.parameters()):,}")


def prepare(threads: int) -> None:
    """Fix the threads, and let the C library keep freed memory (glibc; elsewhere page faults stay in the times)."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    if sys.platform == "linux":
        keep = getattr(ctypes.CDLL(None), "mallopt", None)
        if keep is not None:
            keep(-3, 1 << 30)  # M_MMAP_THRESHOLD: large blocks from the heap too
            keep(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: and the heap never shrinks


def report(name: str, rows: list[dict[str, Any]], threads: int, out: Path | None) -> None:
    """A table on the terminal; with `out`, a CSV whose every row says where and with what it was measured."""
    from rich.console import Console
    from rich.table import Table

    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(*columns, title=f"{name}, {threads} thread{'s' if threads > 1 else ''}")
    for row in rows:
        cells = [row.get(column, "") for column in columns]
        table.add_row(*(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    where = described() | {"threads": threads}
    path = out / f"{name}-{threads}threads.csv"
    with tempfile.NamedTemporaryFile("w", dir=out, suffix=".tmp", delete=False, newline="") as file:
        writer = csv.DictWriter(file, [*columns, *where])
        writer.writeheader()
        writer.writerows(row | where for row in rows)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
    print(f"written: {path}")


if __name__ == "__main__":
    app()
