"""The fault harness of scripts/ for the tests, and small jobs with folders of their own."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MKSTEMP = tempfile.mkstemp
JAPANESE_VOWELS = "dataset=JapaneseVowels"  # comes with sktime: real data wherever the suite is installed


@pytest.fixture(autouse=True)
def _harness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`job("model=...", ...)`: a smoke job's config on a small real set, with its own runs folder and no logger."""
    from faults_common import smoke_job

    def make(*overrides: str) -> dict[str, Any]:
        chosen = overrides if any(part.startswith("dataset=") for part in overrides) else (JAPANESE_VOWELS, *overrides)
        return smoke_job(f"runs_dir={tmp_path / 'runs'}", *chosen)

    return make


class Disk:
    """A small disk of its own at `path`; without the right to mount one, a folder in which faults are injected.

    Injected faults act where every writer of ours makes its file: `tempfile.mkstemp`.
    """

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.monkeypatch = path, monkeypatch
        path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(path)]
        try:
            self.mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            self.mounted = False

    def fill(self) -> None:
        """Leave no byte free."""
        if not self.mounted:
            self._refuse(errno.ENOSPC)
            return
        with (self.path / "ballast").open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"\0" * size) == size:
                        pass

    def free(self) -> None:
        """Undo `fill`."""
        if self.mounted:
            (self.path / "ballast").unlink()
        else:
            self.monkeypatch.setattr(tempfile, "mkstemp", MKSTEMP)

    def read_only(self) -> None:
        """Let nothing be written any more."""
        if not self.mounted:
            self._refuse(errno.EROFS)
            return
        # A second mount on top: the disk itself could not be made read-only while a job holds its lock open.
        for options in (["--bind", str(self.path)], ["-o", "remount,bind,ro"]):
            subprocess.run(["mount", *options, str(self.path)], check=True, capture_output=True)

    def close(self) -> None:
        """Take it away, whoever still uses it."""
        while self.path.is_mount():
            subprocess.run(["umount", "-l", str(self.path)], check=True, capture_output=True)

    def _refuse(self, code: int) -> None:
        def refused(*arguments: Any, dir: Any = None, **options: Any) -> Any:
            if dir is not None and Path(dir).is_relative_to(self.path):
                raise OSError(code, os.strerror(code))
            return MKSTEMP(*arguments, dir=dir, **options)

        self.monkeypatch.setattr(tempfile, "mkstemp", refused)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """Four megabytes to fill, to make read-only."""
    made = Disk(tmp_path / "disk", monkeypatch)
    yield made
    made.close()
