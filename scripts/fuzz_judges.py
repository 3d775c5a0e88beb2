"""Judges of binary formats: what carries checksums must read back true or not at all.

A parquet page and an old HDF5 file carry none. Where only bytes of values were altered, the file says other numbers,
and these must be read; where a header was altered and the reader still takes the file, the format gives no means to
tell, and the judge says None: that is what the hash before the parser is for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from fuzz_mutate import Judge, Seed


def same(found: Any, true: Any) -> bool:
    """Equal containers, numbers and arrays, NaN equal to NaN, types included."""
    if isinstance(true, np.ndarray) or hasattr(true, "numpy"):
        a, b = np.asarray(found), np.asarray(true)
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=b.dtype.kind == "f")
    if isinstance(true, Mapping):
        return list(found) == list(true) and all(same(found[key], true[key]) for key in true)
    if isinstance(true, (list, tuple)):
        return len(found) == len(true) and all(map(same, found, true))
    return type(found) is type(true) and found == true


def signed(true: Any) -> Judge:
    """The judge of a format with checksums: the true content or none."""
    return lambda content, found: found is None or same(found, true)


def unsigned(
    whole: bytes, values: Mapping[str, np.ndarray], true: Any, view: Callable[[Any], Any], build: Any
) -> Judge:
    """The judge of a format without: `values` lie in `whole` as they are in memory.

    Args:
        view: what was read, as plain arrays; `true` is that of the whole file.
        build: values -> what must be read where nothing but they differ, None where they must be refused.
    """
    # the last place: a few small flags may stand by chance in the header, too
    places = {name: (whole.rindex(array.tobytes()), array) for name, array in values.items()}

    def judge(content: bytes, found: Any) -> bool | None:
        if found is not None and same(view(found), true):
            return True
        altered = (
            np.frombuffer(content, np.uint8) != np.frombuffer(whole, np.uint8) if len(content) == len(whole) else None
        )
        said = {}
        for name, (start, array) in places.items():
            piece = content[start : start + array.nbytes]
            if altered is not None:
                altered[start : start + array.nbytes] = False
                said[name] = np.frombuffer(piece, array.dtype).reshape(array.shape)
        if altered is None or altered.any():
            return True if found is None else None
        expected = build(said)
        return found is None if expected is None else found is not None and same(view(found), expected)

    return judge


def headers_only(true: Any, view: Callable[[Any], Any]) -> Judge:
    """Nothing can be said of a compressed page, or of a footer, but that the true content is true."""
    return lambda content, found: True if found is None or same(view(found), true) else None


def whole_file(name: str, content: bytes, read: Callable[[bytes], Any]) -> Seed:
    """A seed of a format with checksums; its truth is what the reader makes of the undamaged file."""
    return Seed(name, content, read, signed(read(content)))
