"""Triton: interpreted on the CPU where there is no GPU, which has to be said before anything imports it."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


def scan_by_rows(self, tensors: list) -> list:
    """`ScanOps.generic_scan` with one call of the combining function a step, not one an element: a thousandth of it."""
    arrays = [np.moveaxis(tensor.handle.data, self.axis, 0) for tensor in tensors]
    dtypes = [tensor.dtype for tensor in tensors]
    scanned = [array.copy() for array in arrays]
    for k in range(1, len(arrays[0])):
        left = [self.to_tensor(array[k - 1 : k], dtype) for array, dtype in zip(scanned, dtypes, strict=True)]
        right = [self.to_tensor(array[k : k + 1], dtype) for array, dtype in zip(arrays, dtypes, strict=True)]
        joined = self.combine_fn.fn(*left, *right)
        for array, tensor in zip(scanned, joined if isinstance(joined, tuple) else (joined,), strict=True):
            array[k] = tensor.handle.data[0]
    return [
        self.to_tensor(np.moveaxis(array, 0, self.axis), dtype) for array, dtype in zip(scanned, dtypes, strict=True)
    ]


@pytest.fixture
def triton_device(monkeypatch: pytest.MonkeyPatch):
    """Where the GPU operator can be tested: the GPU, else the CPU with Triton's interpreter."""
    if torch.cuda.is_available():
        yield torch.device("cuda")
        return
    interpreter = pytest.importorskip("triton.runtime.interpreter", reason="triton is not installed (extra gpu)")
    monkeypatch.setattr(interpreter.ScanOps, "generic_scan", scan_by_rows)
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity pass through, as on a GPU
        yield torch.device("cpu")
