"""The GPU operator built, checked and timed on the GPU at hand: parity first, then speed, then which bars hold.

Writes gpu-*.csv. Exit code 1: an error beyond its bound (nothing is timed then); 2: no GPU that can be used.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(add_completion=False, help=__doc__, pretty_exceptions_enable=False)
HEADS, DIM = 8, 64
BATCHES, TOKENS = (1, 8, 32, 64, 256), (512, 1024, 4096, 16_384, 131_072)
LARGE_MB, MOST_MB = 256, 3000


def refusal() -> str | None:
    """Why nothing can be measured here, and what to do; None where a GPU is at hand."""
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        return (
            f"bench-gpu needs a GPU, and this torch ({torch.__version__}) is built without one. On a machine with a "
            "GPU install a CUDA build of torch (https://pytorch.org says how) and run `make bench-gpu` again; "
            "`make bench` measures the CPU"
        )
    if not torch.cuda.is_available():
        return (
            "bench-gpu needs a GPU, and torch sees none: check that `nvidia-smi` lists one and that "
            "CUDA_VISIBLE_DEVICES does not hide it; `make bench` measures the CPU"
        )
    from aaren.ops import cuda

    reason = cuda.failure(torch.float32, torch.device("cuda", torch.cuda.current_device()))
    if reason is not None:
        return f"bench-gpu: the GPU kernels do not run here ({reason}); Triton needs a C compiler and compute 7.0"
    return None


def hardware() -> dict[str, str]:
    """Columns that say on which GPU a row was measured."""
    import torch

    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    try:
        triton = version("triton")
    except PackageNotFoundError:  # a build under another name
        triton = "unknown"
    return {
        "gpu": properties.name,
        "gpu_memory_GB": f"{properties.total_memory / 1e9:.0f}",
        "multiprocessors": str(properties.multi_processor_count),
        "cuda": str(torch.version.cuda or torch.version.hip),
        "triton": triton,
    }


def bars(operator: list[dict[str, Any]], sdpa: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    """(what, least share or ratio measured, what it must reach), for float32 and bfloat16."""

    def least(direction: str, *, tokens: int = 0, megabytes: float = 0) -> float:
        chosen = [
            row["of_copy"]
            for row in operator
            if row["direction"] == direction and row["tokens"] >= tokens and row["MB"] >= megabytes
        ]
        return min(chosen, default=float("nan"))

    ratios = [row["sdpa_over_it"] for row in sdpa if row["method"] == "cuda" and row["tokens"] == 16_384]
    return [
        ("forward, share of copy bandwidth, N >= 4096", least("forward", tokens=4096), 0.7),
        ("backward, share of copy bandwidth, N >= 4096", least("backward", tokens=4096), 0.6),
        ("forward, any shape past 256 MB", least("forward", megabytes=LARGE_MB), 0.4),
        ("backward, any shape past 256 MB", least("backward", megabytes=LARGE_MB), 0.4),
        ("causal SDPA over ours, forward, N = 16,384", min(ratios, default=float("nan")), 10.0),
    ]


def keep(name: str, rows: Iterable[dict[str, Any]], out: Path) -> list[dict[str, Any]]:
    from bench_common import report

    found = list(rows)
    where = hardware()
    report(f"gpu-{name}", [row | where for row in found], out)
    return found


@app.command()
def main(
    out: Annotated[Path, typer.Option(file_okay=False, help="folder of the CSVs")] = Path("results/efficiency"),
    plans: Annotated[bool, typer.Option("--plans", help="time other plans too (many minutes)")] = False,
) -> None:
    reason = refusal()
    if reason is not None:
        print(f"Error: {reason}", file=sys.stderr)
        raise typer.Exit(2)
    import bench_gpu_parts as parts
    import torch
    from bench_training import FAMILIES, LENGTHS

    torch.manual_seed(0)
    clock, device = parts.gpu_clock, "cuda"
    checks = [*parts.parity_rows(parts.SHAPES, device), *parts.stream_error_rows(parts.LONG, 1 << 20, device)]
    failed = [row for row in keep("parity", checks, out) if not row["holds"]]
    if failed:
        print(
            f"Error: {len(failed)} of {len(checks)} checks fail; nothing is timed. First: {failed[0]}", file=sys.stderr
        )
        raise typer.Exit(1)
    shapes = [(b, HEADS, n) for b in BATCHES for n in TOKENS if b * HEADS * n * DIM * 4 <= MOST_MB * 1e6]
    shapes.append((2, HEADS, 131_072))  # few rows, past 256 MB in bfloat16 too
    operator = keep("operator", parts.operator_rows(shapes, (DIM,), ("float32", "bfloat16"), clock, device), out)
    sdpa = keep("sdpa", parts.sdpa_rows((1024, 4096, 16_384), HEADS, DIM, clock, device), out)
    keep("training", parts.training_rows([*FAMILIES, *LENGTHS], clock, device), out)
    keep("streams", parts.step_rows((1, 64, 1024, 4096, 16_384), clock, device), out)
    if plans:
        few = [(1, HEADS, 131_072), (8, HEADS, 16_384), (64, HEADS, 4096)]
        for name in ("float32", "bfloat16"):
            keep(f"plans-{name}", parts.plan_rows(few, DIM, name, clock, device), out)
    for what, measured, bar in bars(operator, sdpa):
        print(f"{'holds' if measured >= bar else 'MISSED':7s}{what}: {measured:.2f} (bar {bar:g})")


if __name__ == "__main__":
    app()
