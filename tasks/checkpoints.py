"""Reading a checkpoint: checksums first, then nothing but tensors and plain values.

torch reads a checkpoint without looking at the CRC-32 that it wrote beside every tensor, so a flipped bit would train
on as another weight; where the bit makes a member look like a folder, it takes whatever lay in memory for the tensor.
And it unpacks what is compressed, of whatever size; checkpoints of ours never are.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

_FOLDER = 0x10  # the attribute bit by which torch takes a member for a folder


class CheckpointError(Exception):
    """A checkpoint that cannot be used: `path` is where, `reason` is why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason

    def __reduce__(self) -> tuple:
        return type(self), (self.path, self.reason)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `torch.save` wrote as a dict, on the CPU; nothing in the file is ever called.

    Raises:
        CheckpointError: no whole archive, a damaged or compressed member, code or a foreign class in it, no dict.
        FileNotFoundError: no such file.
    """
    try:
        content = torch.load(_checked(path), weights_only=True, map_location="cpu")
    except (FileNotFoundError, CheckpointError):
        raise
    except Exception as error:  # whatever a damaged archive makes zipfile and torch raise
        raise CheckpointError(path, f"cannot be read ({type(error).__name__}: {str(error)[:300]})") from error
    if not isinstance(content, dict):
        raise CheckpointError(path, f"holds a {type(content).__name__}, not a dict")
    return content


def _checked(path: Path) -> io.BytesIO:
    """The archive's members, whose checksums fit, in an archive made anew: torch reads nothing that was not checked."""
    clean = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(clean, "w", zipfile.ZIP_STORED) as copy:
        names = set()
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise CheckpointError(path, f"holds compressed data ({member.filename}), which a checkpoint never does")
            if member.filename in names or member.external_attr & _FOLDER:
                raise CheckpointError(path, f"holds {member.filename} more than once, or as a folder")
            names.add(member.filename)
            copy.writestr(zipfile.ZipInfo(member.filename), archive.read(member))
    clean.seek(0)
    return clean
