"""The streaming step as ONNX: flat tensors in, flat tensors out, the state among them, nothing hidden.

    step = BackboneStep(backbone)
    model = export_step(step)                    # bytes of an ONNX file, batch of any size
    run = OnnxStep(model, step.state)
    y = run({"x": x})["y"]                       # keeps the state between calls

Needs the extra `onnx`. Only the step is exported: on a device a stream is what one has, and the parallel form's tree
would be fixed to one length.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aaren._typing import Float
from aaren.attention import Aaren
from aaren.backbone import Backbone
from aaren.flat import FlatState, Port

OPSET = 20  # the first with Gelu as one operator
NEEDED = ("onnx", "onnxscript", "onnxruntime")


class OnnxMissing(ImportError):
    """Packages that an export needs are not installed; the message has the command that installs them."""


def require_onnx() -> None:
    """Raises OnnxMissing unless the packages of the extra `onnx` can be imported."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise OnnxMissing(f"export needs {', '.join(missing)}: python -m pip install {' '.join(missing)}")


class StreamingStep(nn.Module):
    """A step with everything explicit: `forward(*inputs, *state)` gives `(*outputs, *next state)`.

    `inputs`, `outputs` and `state` name the tensors in that order; the next state has the order of `state`. Every
    tensor has the batch, one row a stream, as its first dimension. `capacity`: the most steps of a stream (None: any).
    """

    inputs: Sequence[Port]
    outputs: Sequence[Port]
    state: Sequence[Port]
    capacity: int | None = None

    def start(self, batch: int) -> list[Tensor]:
        """The state before the first step."""
        return [port.tensor(batch) for port in self.state]

    def describe(self) -> dict[str, Any]:
        """What a host must know to run the step, as JSON types."""
        return {
            "inputs": [port.describe() for port in self.inputs],
            "outputs": [port.describe() for port in self.outputs],
            "state": [port.describe() | {"next": _next(port)} for port in self.state],
            "state_bytes_per_stream": sum(port.tensor(1).nbytes for port in self.state),
            "capacity": self.capacity,
        }


class BackboneStep(StreamingStep):
    """`Backbone.step` alone: token `x` in, `y` out.

    Args:
        backbone: copied; later training does not change this step.
        capacity: see `FlatState`.
    """

    def __init__(self, backbone: Backbone, capacity: int | None = None) -> None:
        super().__init__()
        self.backbone = folded(backbone)
        self.flat = FlatState(self.backbone, capacity)
        self.capacity = capacity
        self.inputs = [Port("x", (backbone.d_model,), "float32", "a token")]
        self.outputs = [Port("y", (backbone.d_model,), "float32", "what the stack makes of it")]
        self.state = self.flat.ports
        self.eval()

    def forward(self, x: Float[Tensor, "B d"], *state: Tensor) -> tuple[Tensor, ...]:
        y, after = self.backbone.step(x, self.flat.unflatten(state))
        position = state[0] + 1
        return self.flat.guard(y, position), *self.flat.flatten(after, position)


def folded(module: nn.Module) -> Any:
    """A copy in evaluation mode, without gradients, whose Aaren layers hold their folded projection as one matrix.

    Values and scores of a token are one linear map (see `Aaren.project`): made once here, W_q and W_k need not be
    shipped, and no step computes them again.
    """
    clone = copy.deepcopy(module).eval().requires_grad_(False)
    for layer in clone.modules():
        if isinstance(layer, Aaren):
            weight, bias = layer.project()
            layer.register_buffer("folded_weight", weight.detach())
            layer.register_buffer("folded_bias", None if bias is None else bias.detach())
            layer.__dict__["project"] = partial(_folded_projection, layer)
    return clone


def _folded_projection(layer: Any) -> tuple[Tensor, Tensor | None]:
    """Stands in for `Aaren.project` in a folded copy."""
    return layer.folded_weight, layer.folded_bias


def export_step(step: StreamingStep) -> bytes:
    """The step as an ONNX model, batch dimension free.

    Raises:
        OnnxMissing: the extra `onnx` is not installed.
    """
    require_onnx()
    ports = [*step.inputs, *step.state]
    example = tuple(port.tensor(2) for port in ports)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            _Variadic(step).eval(),
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=[port.name for port in ports],
            output_names=[*(port.name for port in step.outputs), *(_next(port) for port in step.state)],
            dynamic_shapes=(tuple({0: torch.export.Dim.DYNAMIC} for _ in example),),
            verbose=False,
        )
    assert program is not None
    return _plain(program.model_proto)


class OnnxStep:
    """An exported step on onnxruntime, one thread; keeps the state of its streams between calls.

    Args:
        model: bytes of the ONNX file.
        state: its state ports.
        batch: streams side by side.

    Raises:
        OnnxMissing: onnxruntime is not installed.
    """

    def __init__(self, model: bytes, state: Sequence[Port], batch: int = 1) -> None:
        require_onnx()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.names = [node.name for node in self.session.get_outputs()]
        self.ports, self.batch = list(state), batch
        self.state: dict[str, np.ndarray] = {}
        self.restart()

    def restart(self, values: Mapping[str, np.ndarray] | None = None) -> None:
        """Every stream before its first step, but for the states named in `values`."""
        self.state = {port.name: port.tensor(self.batch).numpy() for port in self.ports} | dict(values or {})

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One step: the outputs by name."""
        found: Sequence[Any] = self.session.run(None, {**inputs, **self.state})
        results = dict(zip(self.names, found, strict=True))
        self.state = {port.name: results.pop(_next(port)) for port in self.ports}
        return results


class _Variadic(nn.Module):
    """Any step as a module of one variadic argument: torch describes the axes of all its tensors in one tuple."""

    def __init__(self, step: StreamingStep) -> None:
        super().__init__()
        self.step = step

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return self.step(*tensors)


def _next(port: Port) -> str:
    return f"{port.name}.next"


def _plain(proto: Any) -> bytes:
    """The model without the exporter's notes (paths and lines of source code), its free dimension called batch."""
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        del value.metadata_props[:]
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del proto.graph.value_info[:]  # shapes in between, under the exporter's own names; a runtime infers them
    for tensor in proto.graph.initializer:
        del tensor.metadata_props[:]
    del proto.graph.metadata_props[:], proto.metadata_props[:]
    return proto.SerializeToString(deterministic=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporter says of itself: one line each, with why."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)  # "torchvision is not installed", for operators that nothing here uses
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            # inside torch.export, against torch 2.13's own tree specs
            warnings.filterwarnings("ignore", message=r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*")
            yield
    finally:
        registration.setLevel(level)
