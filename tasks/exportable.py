"""What a family gives to be exported: its step, how a host uses it, and a drive of its own stream to check it by."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from aaren.export import OnnxStep, StreamingStep

MOST = 1e-5  # that an output may differ from torch's


class Turn(NamedTuple):
    """One step of a drive, one stream.

    inputs: by name, [1, ...].
    start: None, or states that the host sets as a new stream begins (the others take their start values).
    answer: takes the step on the family's own stream in torch, and gives the outputs to compare by name.
    timed: whether `answer` is one step, whose time counts.
    """

    inputs: Mapping[str, Tensor]
    start: Mapping[str, Tensor] | None
    answer: Callable[[], Mapping[str, Tensor]]
    timed: bool = True


@dataclass(frozen=True)
class Exportable:
    """A trained task model's streaming step.

    Args:
        step: what is exported.
        drive: real data, fed to the family's own stream as long as anyone asks; must not end early.
        guide: lines for the host: how to start a stream, what to feed, what comes out.
        scaling: from raw data to the inputs, as JSON types.
    """

    step: StreamingStep
    drive: Callable[[], Iterator[Turn]]
    guide: tuple[str, ...]
    scaling: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Checked:
    """What a check found.

    difference: largest |onnxruntime - torch| / max(1, |torch|) of any output: absolute, and relative where it is large.
    compared: how many steps gave an output to compare. *_seconds: median of a step, one stream, one thread.
    """

    steps: int
    compared: int
    difference: float
    output: str
    onnx_seconds: float
    torch_seconds: float

    @property
    def passed(self) -> bool:
        return self.compared > 0 and self.difference <= MOST


def check(exportable: Exportable, model: bytes, steps: int) -> Checked:
    """Runs `model` beside the family's own stream in torch for `steps` steps, each with its own state."""
    runner = OnnxStep(model, exportable.step.state)
    worst, output, compared = 0.0, "", 0
    onnx_times, torch_times = [], []
    for _, turn in zip(range(steps), exportable.drive(), strict=False):
        if turn.start is not None:
            runner.restart({name: tensor.numpy() for name, tensor in turn.start.items()})
        inputs = {name: tensor.numpy() for name, tensor in turn.inputs.items()}
        began = time.perf_counter()
        found = runner(inputs)
        middle = time.perf_counter()
        expected = turn.answer()
        ended = time.perf_counter()
        onnx_times.append(middle - began)
        if turn.timed:
            torch_times.append(ended - middle)
        compared += bool(expected)
        for name, tensor in expected.items():
            difference = _difference(found[name], tensor.numpy())
            if not difference <= worst:
                worst, output = difference, name
    if len(onnx_times) < steps:
        raise ValueError(f"the drive ended after {len(onnx_times)} of {steps} steps")
    return Checked(steps, compared, worst, output, float(np.median(onnx_times)), float(np.median(torch_times)))


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape or not (np.isfinite(found) == np.isfinite(expected)).all():
        return float("inf")
    finite = np.isfinite(expected)
    there, here = expected[finite].astype(np.float64), found[finite].astype(np.float64)
    return float((np.abs(here - there) / np.maximum(1.0, np.abs(there))).max(initial=0.0))
