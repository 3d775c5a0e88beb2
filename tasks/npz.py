"""Reading an npz that may be damaged or hostile: checksums before headers, and no array larger than its own bytes."""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

MAX_GROWTH = 10  # all arrays together may be at most this many times as large as the file
_END = struct.Struct("<4s6xH10x")  # of a zip without a comment: its signature and the number of members
_DAMAGE = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error)


class NpzError(ValueError):
    """The bytes are no npz of plain arrays; the message says why."""


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Every array of the npz at `path`, by name, writable.

    `np.load` believes the header of an array before it has checked anything: a header that says 10^12 numbers asks for
    as much memory. Here a member is unpacked within bounds and its CRC-32 checked first, and its header must describe
    exactly the bytes that follow it.

    Raises:
        NpzError: no zip, a member that is damaged, no array, of objects (a pickle, which is never run), twice there, or
            one that unpacks to more than `MAX_GROWTH` times the file.
        FileNotFoundError: no such file.
    """
    return {name: _array(content, name) for name, content in members(path)}


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """The name, without `.npy`, and the bytes of every member, whose sum and CRC-32 were checked. NpzError as above."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            names = [info.filename for info in infos]
            if _declared_members(path) != len(names):
                raise NpzError("its directory names another number of members than it holds")
            if len(set(names)) < len(names) or not all(name.endswith(".npy") for name in names):
                raise NpzError("its members are not arrays with names of their own")
            size, growth = path.stat().st_size, sum(info.file_size for info in infos)
            if growth > MAX_GROWTH * size:
                raise NpzError(f"unpacks to {growth} bytes, more than {MAX_GROWTH} times the file's {size}")
            for name in names:
                yield name.removesuffix(".npy"), archive.read(name)
    except FileNotFoundError:
        raise
    except (*_DAMAGE, NotImplementedError) as error:
        raise error if isinstance(error, NpzError) else NpzError(f"{type(error).__name__}: {error}") from error


def _declared_members(path: Path) -> int:
    """The number of members that the end of a zip states, which zipfile does not look at: a directory that is damaged
    in its middle would lose its last arrays without a word. -1 where the end is not that of a file numpy wrote.
    """
    with path.open("rb") as stream:
        stream.seek(-_END.size, 2)
        signature, count = _END.unpack(stream.read())
    return count if signature == b"PK\5\6" else -1


def _array(content: bytes, name: str) -> np.ndarray:
    try:
        return _parsed(content, name)
    except _DAMAGE as error:
        raise error if isinstance(error, NpzError) else NpzError(f"{name}: {error}") from error


def _parsed(content: bytes, name: str) -> np.ndarray:
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
        raise NpzError(f"{name} has the unknown npy version {version}")
    shape, fortran, dtype = read_header(stream)
    if dtype.hasobject:
        raise NpzError(f"{name} holds objects, that is a pickle, which is not read")
    start = stream.tell()
    if math.prod(shape) * dtype.itemsize != len(content) - start:
        raise NpzError(f"{name} has {len(content) - start} bytes, not what {shape} of {dtype} takes")
    flat = (
        np.frombuffer(bytearray(content), dtype, offset=start) if dtype.itemsize else np.empty(math.prod(shape), dtype)
    )
    return flat.reshape(shape, order="F" if fortran else "C")
