"""Reading pickles of other projects without running anything: only plain containers, numbers and numpy arrays.

A pickle may name any function and have it called. This reader resolves a short list of names and refuses the rest
before it is called; it serves the one-off `import` command alone, no job ever unpickles.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import DatasetError
from tasks.events.readers import DAMAGE
from tasks.npz import members

_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((module, name) for module in _MULTIARRAY for name in ("_reconstruct", "scalar")),
    ("_codecs", "encode"),  # how Python 2 bytes inside arrays are written
}
_FIX = "convert the file to npz, text or csv with the project that made it"


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not on the allow-list")
        return super().find_class(module, name)


def _refuse_memo_bombs(content: bytes) -> None:
    """The unpickler fills its memo up to the index that a pickle names: one altered byte could ask for 64 GB."""
    for opcode, index, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(index or 0) > len(content):
            raise pickle.UnpicklingError(f"memo index {index} in a pickle of {len(content)} bytes")


def _decode(content: bytes, path: Path) -> Any:
    try:
        _refuse_memo_bombs(content)
        return _Plain(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises whatever its opcodes stumble over
        raise DatasetError(path, f"refused as a pickle ({type(error).__name__}: {error})", _FIX) from error


def read_pickle(path: Path) -> Any:
    """The content of a pickle that holds plain data only; DatasetError otherwise, and nothing was called."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(path, f"cannot be read ({error.strerror or error})", "check the path") from error
    return _decode(content, path)


def read_object_npz(path: Path) -> dict[str, Any]:
    """The arrays of an npz, object arrays included (ifl-tpp's layout keeps lists of sequences in them)."""
    try:
        return {name: _read_npy(io.BytesIO(content), path) for name, content in members(path)}
    except DAMAGE as error:
        raise DatasetError(path, f"is no readable npz ({type(error).__name__}: {error})", _FIX) from error


def _read_npy(stream: io.BytesIO, path: Path) -> Any:
    version = np.lib.format.read_magic(stream)
    if version > (2, 0):
        raise ValueError(f"unknown npy version {version}")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    _, _, dtype = read_header(stream)
    if dtype.hasobject:
        return _decode(stream.read(), path)
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)
