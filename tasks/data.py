"""What every family loads data through: find (`resolve`), hash (`verified`), parse once (`load_cached`).

    arrays = load_cached(resolve("ETTh1"), parse, version=1)

`parse(resolved) -> dict[str, np.ndarray]` is the family's: it reads `resolved.files`, already verified, and checks
what it read against `resolved.entry`. Nothing here imports torch, and nothing writes to the data root.
"""

from tasks.cache import load_cached
from tasks.errors import ConfigError, DatasetError, DatasetUnavailable, UnknownDataset
from tasks.files import read_text
from tasks.locate import Resolved, cache_root, data_root, has_reader, resolve
from tasks.verify import verified

__all__ = [
    "ConfigError",
    "DatasetError",
    "DatasetUnavailable",
    "Resolved",
    "UnknownDataset",
    "cache_root",
    "data_root",
    "has_reader",
    "load_cached",
    "read_text",
    "resolve",
    "verified",
]
