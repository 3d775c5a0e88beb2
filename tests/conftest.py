"""One thread (two under load cost up to 45x), shapes checked at run time in `aaren` and `tasks`."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

from jaxtyping import install_import_hook

install_import_hook(["aaren", "tasks"], "beartype.beartype")

import pytest  # noqa: E402
import torch  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
