"""Damage of the kinds that files meet, from one number: the same case gives the same bytes on every machine."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Judge = Callable[[bytes, Any], bool | None]
# Sizes and offsets that make a parser allocate, wrap around or look behind its buffer.
NASTY = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0\0\0\0", b"\xff" * 8, b"\xff" * 7 + b"\x7f")


@dataclass(frozen=True)
class Seed:
    """One whole file to damage, and how to tell what came of it.

    `read(content)` reads the bytes as the product does; it returns what was read, or raises one of the reader's
    `refusals`. `judge(content, found)` says True where `found` is what the bytes say (None: refusing them is right),
    False where it is not, and None where the format itself gives no means to tell. `alphabet` holds the bytes that
    edits prefer.
    """

    name: str
    content: bytes
    read: Callable[[bytes], Any]
    judge: Judge
    alphabet: bytes = b""


@dataclass(frozen=True)
class Reader:
    """The seeds of one kind of file, and the documented errors it may end in."""

    name: str
    seeds: tuple[Seed, ...]
    refusals: tuple[type[Exception], ...]


def through(path: Path, read: Callable[[Path], Any]) -> Callable[[bytes], Any]:
    """`read` of the path, after the bytes were put there."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def reading(content: bytes) -> Any:
        path.write_bytes(content)
        return read(path)

    return reading


def damaged(reader: str, seeds: tuple[Seed, ...], case: int, base: int) -> tuple[Seed, bytes]:
    """Case number `case` of a reader under the base seed: the seed that it starts from, and its mutated bytes."""
    chance = random.Random(base << 64 | zlib.crc32(reader.encode()) << 32 | case)
    seed = seeds[case % len(seeds)]
    return seed, mutate(chance, seed.content, seed.alphabet)


def mutate(chance: random.Random, whole: bytes, alphabet: bytes = b"") -> bytes:
    """One damaged copy: cut, a flipped bit, one to three edited bytes, a moved or lost piece, or a nasty number."""
    content, size = bytearray(whole), len(whole)
    match chance.choices(("cut", "flip", "edit", "piece", "number"), (8, 22, 50, 12, 8))[0]:
        case "cut":
            del content[chance.randrange(size) :]
        case "flip":
            bit = chance.randrange(8 * size)
            content[bit // 8] ^= 1 << bit % 8
        case "edit":
            for _ in range(chance.randint(1, 3)):
                _edit(chance, content, alphabet)
        case "piece":
            _move(chance, content)
        case _:
            number, place = chance.choice(NASTY), chance.randrange(size)
            content[place : place + len(number)] = number
    return bytes(content)


def _edit(chance: random.Random, content: bytearray, alphabet: bytes) -> None:
    place = chance.randrange(len(content))
    byte = chance.choice(alphabet) if alphabet and chance.random() < 0.75 else chance.randrange(256)
    match chance.randrange(3):
        case 0:
            content[place] = byte
        case 1:
            content.insert(place, byte)
        case _:
            del content[place]


def _move(chance: random.Random, content: bytearray) -> None:
    start = chance.randrange(len(content))
    piece = content[start : start + chance.randint(1, 64)]
    kind = chance.randrange(4)
    if kind == 0:  # doubled
        content[start:start] = piece
    elif kind == 1:  # lost
        del content[start : start + len(piece)]
    elif kind == 2:  # a hole in a sparse file
        content[start : start + len(piece)] = bytes(len(piece))
    else:  # copied over another place
        place = chance.randrange(len(content))
        content[place : place + len(piece)] = piece
