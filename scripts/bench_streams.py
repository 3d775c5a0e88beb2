"""What a token costs in a stream: beside the bare products, early and late, and with thousands of streams at once.

One layer of the paper's block (d 512, d_ff 2048, 8 heads). The bare products of a token are its
matrix-vector (with many streams: matrix) products alone, by the quicker of torch's ways to do them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from bench_common import Row, spread, timed
from bench_figure5 import D_MODEL, filled_state, paper_block, run_burst

from aaren import Backbone, quick
from aaren.fused_step import Attend

EARLY, LATE = 100, 100_000  # tokens seen
BURST = 8  # tokens timed together for few streams
COUNTS = (1, 4, 16, 64, 256, 1024, 4096)
MODELS = ("aaren", "transformer", "gru")


def bare_products(backbone: Backbone, streams: int) -> dict[str, Callable[[], Any]]:
    """Name -> the products of one token a stream, without anything between them: torch's own call, and what we call."""
    block: Any = backbone.blocks[0]
    with torch.no_grad():
        folded = Attend(block.attention)
    maps = [(folded.weight, folded.bias)]
    maps += [(m.weight, m.bias) for m in (block.attention.w_o, block.up, block.down)]
    inputs = [torch.randn(streams, weight.shape[1]) for weight, _ in maps]

    def products(linear: Callable[..., Any]) -> None:
        with torch.no_grad():
            for x, (weight, bias) in zip(inputs, maps, strict=True):
                linear(x, weight, bias)

    return {"F.linear": partial(products, F.linear), "quickest": partial(products, quick.linear)}


def parts(repeats: int, most: int) -> dict[str, Callable[[], Iterator[Row]]]:
    """Name of a CSV -> what makes its rows, with no more than `most` streams."""
    counts = sorted({min(count, most) for count in COUNTS})
    return {
        "streams-one": partial(one_stream, 5 * repeats),
        "streams-many": partial(many_streams, counts, repeats),
    }


def one_stream(repeats: int) -> Iterator[Row]:
    """Milliseconds of a token of one stream, after 100 tokens and after 100,000, beside its bare products."""
    backbone, x = paper_block("aaren"), torch.randn(1, D_MODEL)
    calls: dict[str, Callable[[], Any]] = {}
    sizes: dict[str, int] = {}
    for tokens in (EARLY, LATE):
        state = filled_state("aaren", backbone, 1, tokens, BURST)
        calls[f"step at token {tokens}"] = partial(run_burst, backbone, state, x, BURST)
        sizes[f"step at token {tokens}"] = state.nbytes
    for name, products in bare_products(backbone, 1).items():
        calls[f"bare products, {name}"] = partial(_often, products, BURST)
    taken = {name: [ms / BURST for ms in times] for name, times in timed(calls, repeats).items()}
    rows: dict[str, Row] = {name: spread(times) for name, times in taken.items()}
    bare = min(row["ms"] for name, row in rows.items() if name.startswith("bare"))
    for name, row in rows.items():
        yield {"what": name} | row | {"times_bare": row["ms"] / bare, "state_bytes": sizes.get(name, "")}


def many_streams(counts: Sequence[int], repeats: int, tokens: int = EARLY) -> Iterator[Row]:
    """Tokens a second and bytes a stream against the number of streams stepped together, `tokens` seen by each."""
    first: dict[str, float] = {}
    for count in counts:
        burst = BURST if count <= 16 else 1
        x, calls, sizes = torch.randn(count, D_MODEL), {}, {}
        for model in MODELS:
            backbone = paper_block(model)
            state = filled_state(model, backbone, count, tokens, burst)
            calls[model], sizes[model] = partial(run_burst, backbone, state, x, burst), state.nbytes
        for name, products in bare_products(paper_block("aaren"), count).items():
            calls[f"bare products, {name}"] = partial(_often, products, burst)
        taken = timed(calls, repeats)
        rows: dict[str, Row] = {name: spread([ms / burst for ms in times]) for name, times in taken.items()}
        bare = min(row["ms"] for name, row in rows.items() if name.startswith("bare"))
        for name, row in rows.items():
            rate = count * 1e3 / row["ms"]
            first.setdefault(name, rate / count)
            about = {"what": name, "streams": count, "tokens_seen": tokens}
            about |= row | {"tokens_a_second": rate, "times_one_stream": rate / first[name]}
            yield about | {"times_bare": row["ms"] / bare, "bytes_a_stream": sizes.get(name, 0) / count or ""}


def _often(call: Callable[[], Any], times: int) -> None:
    for _ in range(times):
        call()
