"""Temporary files beside what is written: those of killed writers go, those of living ones stay."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.suite import atomic
from tasks.suite.atomic import replacing, write_atomic

DAY = 24 * 3600
WRITER = """
import sys
from pathlib import Path
from tasks.suite.atomic import replacing

with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    print(temporary, flush=True)
    sys.stdin.readline()
    temporary.write_bytes(b"whole")
"""


@pytest.fixture
def writer(tmp_path):
    """Another process in the middle of writing `table.md`; its temporary file."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "table.md")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process:
        yield process, Path(process.stdout.readline().strip())
        process.kill()


def test_a_killed_writers_file_goes_with_the_next_write_to_its_folder(writer, tmp_path):
    process, temporary = writer
    process.kill()
    process.wait()
    assert temporary.is_file()
    write_atomic(tmp_path / "other.md", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["other.md"]


def test_a_living_writers_file_stays_however_old_it_looks(writer, tmp_path):
    process, temporary = writer
    os.utime(temporary, (1.0, 1.0))
    write_atomic(tmp_path / "table.md", b"new")
    assert temporary.read_bytes() == b"half"
    process.communicate("go on\n")
    assert process.returncode == 0
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"table.md": b"whole"}


def test_a_thread_does_not_take_anothers(tmp_path):
    with replacing(tmp_path / "a") as first:
        first.write_bytes(b"a")
        write_atomic(tmp_path / "b", b"b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_of_a_writer_elsewhere_only_a_days_silence_tells(tmp_path, monkeypatch):
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(atomic, "_machine", lambda: "0" * 8)
        with replacing(tmp_path / "table.md") as temporary:
            kept = {age: temporary.with_name(temporary.name.replace(".tmp", f"{age}.tmp")) for age in (0, 2)}
    now = (tmp_path / "table.md").stat().st_mtime
    for age, path in kept.items():
        path.write_bytes(b"half")
        os.utime(path, (now - age * DAY, now - age * DAY))
    write_atomic(tmp_path / "table.md", b"new")
    assert {age: path.exists() for age, path in kept.items()} == {0: True, 2: False}


def test_a_hidden_file_of_another_program_stays(tmp_path):
    others = [tmp_path / name for name in (".notes.tmp", ".table.md.swp", ".table.md.abcd1234.tmp", "x.1-1.a.tmp")]
    for path in others:
        path.write_bytes(b"not ours")
        os.utime(path, (1.0, 1.0))
    write_atomic(tmp_path / "table.md", b"new")
    assert all(path.exists() for path in others)


def test_what_cannot_be_removed_does_not_stop_the_writing(tmp_path, monkeypatch):
    def refused(folder):
        raise PermissionError(folder)

    monkeypatch.setattr(os, "scandir", refused)
    write_atomic(tmp_path / "table.md", b"new")
    assert (tmp_path / "table.md").read_bytes() == b"new"
