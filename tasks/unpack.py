"""Taking the files of a layout out of a zip that may be hostile: nothing is written but what was asked for."""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from tasks.errors import DatasetError
from tasks.suite.manifest import FileEntry
from tasks.verify import check_file

MAX_GROWTH = 10  # a member may be at most this many times the size declared for it
FIX = "delete the archive and fetch it again from the official address"
_CHUNK = 1 << 20


def unpack(archive: Path, layout: Sequence[FileEntry], root: Path) -> list[str]:
    """Write the layout's files from `archive` to their paths under `root`; returns `check_file`'s warnings.

    Members are found by file name, in whatever folder of the archive. All files are checked before the first is put
    in place, so a bad archive changes nothing. Raises `DatasetError` for an archive that is no whole zip, holds an
    absolute path, a path with `..` or a link, lacks a member or has it twice, or whose member is more than
    `MAX_GROWTH` times as large as the manifest declares (its own size, else the archive's).
    """
    staged: list[tuple[Path, Path]] = []
    warnings = []
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            for member in members:
                _refuse_unsafe(archive, member)
            for entry in layout:
                member = _find(archive, members, entry)
                target = root / entry.path
                target.parent.mkdir(parents=True, exist_ok=True)
                _refuse_detour(archive, target.parent, root)
                temporary = target.with_name(f"{target.name}.unpacked.part")
                staged.append((temporary, target))
                _extract(opened, member, temporary)
                _, warning = check_file(temporary, entry)
                warnings += [warning.replace(str(temporary), str(target))] if warning else []
        for temporary, target in staged:
            os.replace(temporary, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DatasetError(archive, f"is not a whole, plain zip archive ({error})", FIX) from error
    except OSError as error:
        fix = "free some space or mend the folder's permissions, and run the same command again"
        raise DatasetError(archive, f"cannot be unpacked ({error.strerror or error})", fix) from error
    finally:
        for temporary, _ in staged:
            temporary.unlink(missing_ok=True)
    return warnings


def _refuse_unsafe(archive: Path, member: zipfile.ZipInfo) -> None:
    raw = member.orig_filename
    path = PurePosixPath(raw)
    windows = PureWindowsPath(raw)
    if path.is_absolute() or windows.drive or windows.root or ".." in windows.parts or "\0" in raw:
        raise DatasetError(archive, f"holds the unsafe path {raw!r}: it would be written outside its folder", FIX)
    mode = member.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DatasetError(archive, f"holds {raw!r}, which is a link or device and not a file", FIX)


def _refuse_detour(archive: Path, folder: Path, root: Path) -> None:
    if not folder.resolve().is_relative_to(root.resolve()):
        fix = f"make {folder} a folder and no link, or choose another data root"
        raise DatasetError(archive, f"is not unpacked: {folder} leads out of {root}, to {folder.resolve()}", fix)


def _find(archive: Path, members: Sequence[zipfile.ZipInfo], entry: FileEntry) -> zipfile.ZipInfo:
    wanted = PurePosixPath(entry.path).name
    found = [member for member in members if PurePosixPath(member.filename).name == wanted]
    if len(found) != 1:
        raise DatasetError(archive, f"holds {wanted} {len(found)} times, not once", FIX)
    declared = entry.bytes or archive.stat().st_size
    if found[0].file_size > MAX_GROWTH * declared:
        reason = f"unpacks {wanted} to {found[0].file_size} bytes, more than {MAX_GROWTH} times the {declared} declared"
        raise DatasetError(archive, reason, FIX)
    return found[0]


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    # zipfile never gives out more than the size that the member declares, and checks its CRC-32 at the end
    with opened.open(member) as packed, target.open("wb") as stream:
        while chunk := packed.read(_CHUNK):
            stream.write(chunk)
        stream.flush()
        os.fsync(stream.fileno())
