"""A host without torch: run an exported step on numpy and onnxruntime.  python scripts/onnx_host.py <run>/export

To be copied: `Stream` is all that a device needs. Run as a script it feeds random inputs and prints what comes out.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


class Stream:
    """Streams side by side on `step.onnx`, as `step.json` beside it describes them."""

    def __init__(self, folder: Path, batch: int = 1) -> None:
        self.about = json.loads((folder / "step.json").read_text())
        self.session = onnxruntime.InferenceSession(folder / "step.onnx", providers=["CPUExecutionProvider"])
        self.batch = batch
        self.state: dict[str, np.ndarray] = {}
        self.start()

    def start(self) -> None:
        """Forget everything: a state's `start` is one number, or one stream's array."""
        for port in self.about["state"]:
            shape = [self.batch, *port["shape"][1:]]
            self.state[port["name"]] = np.broadcast_to(np.asarray(port["start"], port["dtype"]), shape)

    def step(self, **inputs: Any) -> dict[str, np.ndarray]:
        """One step: inputs and outputs by name. To go on from here twice, keep `stream.state` and put it back."""
        outputs = [port["name"] for port in self.about["outputs"]]
        found: Sequence[Any] = self.session.run(
            outputs + [port["next"] for port in self.about["state"]], {**inputs, **self.state}
        )
        self.state = dict(zip(self.state, found[len(outputs) :], strict=True))
        return dict(zip(outputs, found, strict=False))


def main(folder: Path, steps: int = 20) -> None:
    """Feed `steps` random steps, no more than the stream has room for."""
    stream = Stream(folder)
    rng = np.random.default_rng(0)
    print(f"{stream.about['run_id']}: {stream.about['bytes']:,} bytes")
    print("\n".join(stream.about["guide"]))
    outputs: dict[str, np.ndarray] = {}
    began = time.perf_counter()
    steps = min(steps, stream.about["capacity"] or steps)
    for number in range(steps):
        inputs = {p["name"]: _any(p, stream.batch, number, rng) for p in stream.about["inputs"]}
        outputs = stream.step(**inputs)
    print(f"{(time.perf_counter() - began) / steps * 1e6:.0f} us a step")
    for name, value in outputs.items():
        print(name, np.array2string(value[0], precision=4, threshold=8))


def _any(port: dict[str, Any], batch: int, number: int, rng: np.random.Generator) -> np.ndarray:
    """Normal numbers; times that count up; true; the first mark."""
    shape = [batch, *port["shape"][1:]]
    if port["name"] in ("time", "timestep"):
        return np.full(shape, number, port["dtype"])
    return (rng.normal(size=shape) if port["dtype"] == "float32" else np.full(shape, port["dtype"] == "bool")).astype(
        port["dtype"]
    )


if __name__ == "__main__":
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "step.json").is_file():
        raise SystemExit("usage: python scripts/onnx_host.py <run>/export   (made by scripts/export.py run=<run_id>)")
    main(Path(sys.argv[1]))
