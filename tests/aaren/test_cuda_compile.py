"""The kernels compile for GPUs of compute capability 8.0 and 9.0, which needs no GPU: the interpreter checks no types.

In a process of its own: in this one Triton interprets.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
import triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from aaren.ops import triton_backward, triton_forward

DOUBLE = {"start_u", "start_o", "start_m", "part_u", "part_o", "part_g", "part_h", "part_a", "last_m", "last_u",
          "last_w", "right_g", "right_h", "left_g", "left_h"}
OTHERS = {"valid": "*u8", "part_top": "*i32", "last_top": "*i64"}
SUMS = {"gates", "part_m", "do_dot_o", "d_scores"}
DATA = {"scores", "values", "out", "d_out", "d_values"}
CONSTANTS = {"C": 16, "BD": 16, "ACC": tl.float32, "MASKED": True, "GATED": True, "STAGES": 2}

def build(function, capability):
    types, constants, attributes = {}, {}, {}
    for i, name in enumerate(function.arg_names):
        if name in CONSTANTS:
            types[name], constants[(i,)] = "constexpr", CONSTANTS[name]
        elif name in DOUBLE | SUMS | DATA | OTHERS.keys():
            types[name] = OTHERS.get(name) or ("*fp64" if name in DOUBLE else "*fp32" if name in SUMS else "*bf16")
            attributes[(i,)] = [["tt.divisibility", 16]]
        else:
            types[name] = "i32"
    source = ASTSource(function, types, constants, attributes)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 1})

kernels = [(triton_forward.forward, 90), (triton_forward.summarise, 80), (triton_backward.backward, 80)]
for kernel, capability in [*kernels, (triton_backward.summarise_backward, 90)]:
    assert build(kernel, capability).asm["cubin"], kernel
print("compiled")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Triton and its assembler are for Linux")
def test_every_kernel_compiles_for_a_gpu(tmp_path: Path):
    pytest.importorskip("triton", reason="triton is not installed (extra gpu)")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, env=environment, timeout=280
    )
    assert done.stdout.strip() == "compiled", done.stderr
