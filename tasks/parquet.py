"""Reading a parquet table that may be damaged or hostile: no more rows than its bytes can be believed to hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

MAX_GROWTH = 100  # 8-byte cells that a byte of the file may stand for; the published sets have at most 11


class ParquetError(ValueError):
    """The bytes are no parquet table that can be used; the message says why."""


def read_table(path: Path) -> pa.Table:
    """The whole table; the checksums of pages are held against them where the file has any.

    A run of equal values takes a few bytes whatever its length, so a file of a hundred bytes may ask for any amount
    of memory: the rows that its footer declares are bounded before they are read.

    Raises:
        ParquetError: no parquet file, damaged, or more cells than its size can be believed to hold.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            cells, size = file.metadata.num_rows * file.metadata.num_columns, path.stat().st_size
            if 8 * cells > MAX_GROWTH * size:
                raise ParquetError(f"declares {cells} cells in {size} bytes")
            table = file.read(use_threads=False)
        table.validate(full=True)  # text that is not UTF-8 would raise when it is used
        return table
    except (pa.ArrowException, OSError, ValueError) as error:
        raise error if isinstance(error, ParquetError) else ParquetError(str(error)) from error
