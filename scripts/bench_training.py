"""A training step of the whole stack, model against model: at the families' `paper` sizes and against N."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from bench_common import Row, spread, timed

from aaren import Backbone


class Size(NamedTuple):
    """What a stack is fed and how large it is."""

    name: str
    batch: int
    tokens: int
    d_model: int
    d_ff: int
    layers: int
    heads: int


FAMILIES = [
    Size("rl", 64, 60, 128, 512, 3, 1),
    Size("forecasting", 32, 288, 512, 2048, 2, 8),
    Size("forecasting, d 128", 32, 288, 128, 256, 2, 8),
    Size("JapaneseVowels", 16, 29, 128, 256, 3, 8),
    Size("SelfRegulationSCP1", 16, 896, 128, 256, 3, 8),
    Size("events", 16, 70, 64, 64, 2, 1),
]
LENGTHS = [Size("length", 1, tokens, 128, 512, 1, 8) for tokens in (64, 256, 1024, 2048, 4096, 8192, 16384)]
MODELS = ("aaren", "transformer")


def training_rows(sizes: Sequence[Size], models: Sequence[str], repeats: int, threads: int) -> Iterator[Row]:
    """Milliseconds of one forward and backward; `speed_up` is the last model's time over this one's.

    Raises:
        ValueError: a model that is not registered (the message has the near misses).
    """
    for size in sizes:
        x = torch.randn(size.batch, size.tokens, size.d_model)
        functions = {model: _step(model, size, x, torch.randn_like(x)) for model in models}
        taken = timed(functions, repeats, threads)
        rival = spread(taken[models[-1]])["ms"]
        for model in models:
            row = {"size": size.name, "model": model, "threads": threads} | size._asdict()
            row = row | spread(taken[model])
            del row["name"]
            yield row | {"speed_up": rival / row["ms"]}


def _step(attention: str, size: Size, x: Any, gradient: Any) -> Callable[[], None]:
    model = Backbone(
        attention=attention, d_model=size.d_model, n_layers=size.layers, n_heads=size.heads, d_ff=size.d_ff
    )

    def step() -> None:
        model.zero_grad(set_to_none=True)
        model(x)[0].backward(gradient)

    return step
