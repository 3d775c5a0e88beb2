"""`aaren` serves alone: torch, numpy and numba are all it imports, and it knows nothing of the suite."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# llvmlite is numba's; jaxtyping is optional, and so is triton, which torch brings for CUDA
OURS = {"aaren", "torch", "numpy", "numba", "llvmlite", "triton", "jaxtyping"}
OPTIONAL = {"export.py": {"onnxruntime"}}  # imported where it is asked for, and named if it is not there

ALONE = """
import sys
for name in ("triton", "jaxtyping", "beartype", "lightning", "hydra", "pandas", "sklearn", "sktime", "wandb", "tasks"):
    sys.modules[name] = None
import torch
from aaren import Backbone, attention_names
for name in attention_names():
    stack = Backbone(name, d_model=8, n_layers=2, n_heads=2, d_ff=16)
    outputs, state = stack(torch.randn(2, 5, 8))
    outputs.sum().backward()
    stack.step(torch.randn(2, 8), state.detach())
"""


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names)


def test_it_runs_where_nothing_of_the_suite_is_installed():
    subprocess.run([sys.executable, "-W", "error", "-c", ALONE], check=True, cwd=ROOT, timeout=280)


def test_arrows_point_one_way():
    """scripts -> tasks -> aaren; a family imports nothing of another family."""
    for path in (ROOT / "aaren").rglob("*.py"):
        assert imported(path) <= OURS | OPTIONAL.get(path.name, set()), path
    families = {path.parent.name for path in (ROOT / "tasks").glob("*/__init__.py")} - {"suite"}
    assert len(families) >= 3
    for path in (ROOT / "tasks").rglob("*.py"):
        assert "scripts" not in imported(path), path
        text, home = path.read_text(), path.relative_to(ROOT / "tasks").parts[0]
        for family in families - {home}:
            if home in families:
                assert f"tasks.{family}" not in text, f"{path} knows the family {family}"
