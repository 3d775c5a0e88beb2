"""Parse once: the arrays of a verified dataset, in an npz keyed by its source hashes and the parser's version."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tasks.errors import DatasetError
from tasks.locate import Resolved, cache_root
from tasks.npz import NpzError, read_arrays
from tasks.suite.atomic import write_atomic
from tasks.verify import verified

log = logging.getLogger(__name__)
Arrays = dict[str, np.ndarray]
_NAMES = "__names__"  # a member with the names of all others: a lost or renamed array is noticed
_DAMAGE = (OSError, NpzError)


def cache_path(resolved: Resolved, version: int) -> Path:
    """Where the parsed arrays of a verified dataset are kept."""
    key = json.dumps([resolved.dataset, resolved.variant, sorted(resolved.sha256.items()), version])
    digest = hashlib.sha256(key.encode()).hexdigest()[:20]
    return cache_root() / "parsed" / f"{resolved.dataset.replace('/', '-')}-{resolved.variant}-{digest}.npz"


def load_cached(resolved: Resolved, parser: Callable[[Resolved], Arrays], version: int) -> Arrays:
    """Verify the source, then return its parsed arrays, from the cache where they are.

    `parser` gets the verified `Resolved` and returns named arrays (no object dtype); raise `version` when what it
    returns changes. A damaged cache file is rebuilt once; if it is unreadable again right away, that is a
    `DatasetError`. Many processes may load at once: each writes a file of its own and puts it in place in one
    step. A cache folder that cannot be written costs a parse per load, and is logged.
    """
    resolved = verified(resolved)
    path = cache_path(resolved, version)
    if path.exists():
        try:
            return _read(path)
        except _DAMAGE as error:
            log.warning("%s: damaged cache file (%s); parsing the source again", path, error)
    try:
        arrays = parser(resolved)
    except DatasetError as error:  # the readers do not know what the dataset is called
        raise DatasetError(error.path, error.reason, error.fix.replace("NAME", resolved.dataset)) from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.hasobject or name == _NAMES:
            raise TypeError(f"{resolved.dataset}: the parser's {name!r} is not a plain array")
    content = io.BytesIO()
    np.savez(content, **{_NAMES: np.array(sorted(arrays), dtype=np.str_), **arrays})
    try:
        write_atomic(path, content.getvalue())
    except OSError as error:
        log.warning("%s; going on without the cache", error)
        return arrays
    try:
        return _read(path)
    except _DAMAGE as error:
        fix = "set AAREN_CACHE to a folder on another disk"
        raise DatasetError(path, f"was rebuilt and is damaged again ({error})", fix) from error


def _read(path: Path) -> Arrays:
    arrays = read_arrays(path)
    names = arrays.pop(_NAMES, None)
    if names is None or sorted(names.tolist()) != sorted(arrays):
        raise NpzError("not the arrays that were written")
    return arrays
