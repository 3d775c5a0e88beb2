"""Small files that ask for much memory, and links that lead out of the data root: refused before they cost anything."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tracemalloc
import zipfile

import h5py
import numpy as np
import pandas as pd  # noqa: F401 - pyarrow imports it at its first table, which is no part of a refusal's cost
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.checkpoints import CheckpointError, read_checkpoint
from tasks.classification.ts import read_ts
from tasks.errors import DatasetError
from tasks.events.unpickle import read_object_npz
from tasks.fetch import ResumingDownloader
from tasks.files import read_text
from tasks.forecasting.series import read_series
from tasks.npz import NpzError, read_arrays
from tasks.rl.d4rl import read_episodes
from tasks.rl.robots import ROBOTS
from tasks.suite.manifest import FileEntry
from tasks.unpack import unpack


@pytest.fixture(autouse=True)
def _little_memory():
    """Nothing here may take more than 12 MiB of Python's memory (numpy's arrays count) while it refuses."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 << 20


def _header(shape: tuple, dtype: str = "<f8") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def _deflated(name: str, size: int, start: bytes = b"") -> bytes:
    """A zip with one member of zeros, packed a thousandfold; made piece by piece."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as member:
        member.write(start)
        for _ in range(size >> 20):
            member.write(bytes(1 << 20))
    return stream.getvalue()


def test_npz_headers_and_members(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", _header((10**12,)) + bytes(64))
    with pytest.raises(NpzError, match="has 64 bytes, not what"):
        read_arrays(path)
    path.write_bytes(_deflated("x.npy", 16 << 20, _header((2 << 20,))))
    with pytest.raises(NpzError, match="more than 10 times"):
        read_arrays(path)
    with pytest.raises(DatasetError, match="more than 10 times"):
        read_object_npz(path)


def test_a_compressed_checkpoint(tmp_path):
    (tmp_path / "last.ckpt").write_bytes(_deflated("archive/data.pkl", 16 << 20))
    with pytest.raises(CheckpointError, match="compressed"):
        read_checkpoint(tmp_path / "last.ckpt")


def test_a_parquet_of_one_value_a_milliard_times(tmp_path):
    path = tmp_path / "a.parquet"
    rows = 2_000_000
    columns = {"date": pa.repeat(pa.scalar(0, pa.timestamp("ms")), rows), "OT": pa.repeat(0.0, rows)}
    pq.write_table(pa.table(columns), path, compression="zstd")
    assert path.stat().st_size < 20_000
    with pytest.raises(DatasetError, match=f"declares {2 * rows} cells"):
        read_series(path, "NAME")


def test_hdf5_rows_that_were_never_written(tmp_path):
    robot, path, rows = ROBOTS["ant"], tmp_path / "a.hdf5", 5_000_000
    with h5py.File(path, "w") as file:
        for name, width in (("observations", (robot.observations,)), ("actions", (robot.actions,)), ("rewards", ())):
            file.create_dataset(name, (rows, *width), "f4")
        for name in ("terminals", "timeouts"):
            file.create_dataset(name, (rows,), bool)
    with pytest.raises(DatasetError, match="would unpack to"):
        read_episodes(path, robot)


def test_hdf5_chunks_that_unpack_whole(tmp_path):
    path, rows = tmp_path / "a.hdf5", 10
    with h5py.File(path, "w") as file:
        file.create_dataset("observations", (rows, 11), "f4", chunks=(1 << 24, 11), maxshape=(None, 11))
        for name, width in (("actions", (3,)), ("rewards", ()), ("terminals", ()), ("timeouts", ())):
            file[name] = np.zeros((rows, *width), "f4" if width or name == "rewards" else bool)
    with pytest.raises(DatasetError, match="chunks of"):
        read_episodes(path, ROBOTS["hopper"])


def test_long_lines_and_packed_text(tmp_path):
    path = tmp_path / "a.ts"
    path.write_bytes(gzip.compress(bytes(1 << 20)))
    with pytest.raises(DatasetError, match="gzip data"):
        read_ts(path)
    path.write_bytes(b"1 2\n" * 1000)
    with pytest.raises(DatasetError, match="more than 100 bytes"):
        read_text(path, max_bytes=100)


def test_a_download_that_unpacks_to_more_than_was_expected(tmp_path):
    part = tmp_path / "a.part"
    part.write_bytes(gzip.compress(bytes(8 << 20)))
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        ResumingDownloader(part, 1000, False, None)._gunzip()
    assert not part.exists()


LAYOUT = (FileEntry("train", "ts", "Toy/Toy_TRAIN.ts", 10, check="warn"),)


def test_a_zip_of_a_thousandfold(tmp_path):
    (tmp_path / "a.zip").write_bytes(_deflated("Toy_TRAIN.ts", 16 << 20))
    with pytest.raises(DatasetError, match="more than 10 times"):
        unpack(tmp_path / "a.zip", LAYOUT, tmp_path / "root")


@pytest.mark.parametrize("name", ["../Toy_TRAIN.ts", "/etc/Toy_TRAIN.ts", "C:\\Toy_TRAIN.ts", "a/../../Toy_TRAIN.ts"])
def test_archives_write_below_their_folder_only(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, b"evil")
    with pytest.raises(DatasetError, match="unsafe path"):
        unpack(tmp_path / "a.zip", LAYOUT, tmp_path / "data" / "root")
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a.zip"]


def test_links_in_archives_are_not_made(tmp_path):
    link = zipfile.ZipInfo("Toy_TRAIN.ts")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, b"/etc/passwd")
    with pytest.raises(DatasetError, match="link or device"):
        unpack(tmp_path / "a.zip", LAYOUT, tmp_path / "root")


def test_a_link_in_the_data_root_is_not_written_through(tmp_path):
    """A folder of the data root that is a link to another place: what is unpacked stays below the root, or nowhere."""
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    os.symlink(outside, root / "Toy")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("Toy_TRAIN.ts", b"0123456789")
    with pytest.raises(DatasetError, match="leads out of"):
        unpack(tmp_path / "a.zip", LAYOUT, root)
    assert not list(outside.iterdir())


def test_hdf5_links_to_other_files_are_not_followed(tmp_path, monkeypatch):
    secret, path = tmp_path / "secret.hdf5", tmp_path / "a.hdf5"
    with h5py.File(secret, "w") as file:
        file["observations"] = np.zeros((4, 11), "f4")
    with h5py.File(path, "w") as file:
        file["observations"] = h5py.ExternalLink(str(secret), "observations")
        for name in ("actions", "rewards", "terminals", "timeouts"):
            file[name] = np.zeros(4, "f4")
    with pytest.raises(DatasetError, match="another file, which is not followed"):
        read_episodes(path, ROBOTS["hopper"])
