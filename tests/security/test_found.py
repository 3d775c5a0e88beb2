"""What a hundred thousand damaged files brought to light, each as the smallest file that shows it."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tasks.checkpoints import CheckpointError, read_checkpoint
from tasks.errors import DatasetError
from tasks.events import layouts
from tasks.events.readers import read_parquet
from tasks.forecasting.series import read_series
from tasks.npz import NpzError, read_arrays
from tasks.suite.manifest import FileEntry
from tasks.unpack import unpack


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"date,OT\0\n2016-07-01,1\n", "control character"),  # numpy drops zero bytes at the end of a name
        (b"OT,date\n30.5,/7/2 2:30\n", "is no date"),  # pandas reads it as a day of year 0
        (b"date,OT\n2016-07-01 02:00:60,1\n", "is no date"),  # ... and this as one minute later
    ],
)
def test_series(tmp_path, content, reason):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=reason):
        read_series(path, "NAME")


def test_parquet_text_that_is_not_utf_8(tmp_path):
    path = tmp_path / "a.parquet"
    columns = {"sequence": [0, 0], "time": [0.5, 1.0], "mark": [0, 0], "split": ["train", "train"]}
    table = pa.table(columns).replace_schema_metadata({"n_marks": "1", "unit": "hours"})
    pq.write_table(table, path, use_dictionary=False, write_statistics=False, compression="none")
    path.write_bytes(path.read_bytes().replace(b"train", b"tr\xffin"))
    with pytest.raises(DatasetError, match="no readable parquet"):
        read_parquet(path)


@pytest.mark.parametrize("byte", [b"\x0b", b"\x0c", b"\x1c", b"\0"])
def test_control_bytes_are_no_blanks(tmp_path, byte):
    path = tmp_path / "a.csv"
    path.write_bytes(b"user_id,item_id,timestamp\n0,1,9.25\n".replace(b"9", byte))
    with pytest.raises(DatasetError, match="control character"):
        layouts.read_jodie(path, by_item=False, n_marks=7, end=2000.0)


def test_a_row_with_a_cell_more_than_the_header_keeps_its_columns(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"medallion, pickup_datetime, fare\nA,2013-01-02 0,2013-01-02 01:00:00,4\n")
    with pytest.raises(DatasetError, match="is no date"):
        layouts.read_tlc(path)


def test_a_zip_whose_names_are_no_text(tmp_path):
    name = zipfile.ZipInfo("é.ts")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, b"x")
    whole = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(whole.replace("é".encode(), b"\xff\xfe"))
    with pytest.raises(DatasetError, match="not a whole, plain zip"):
        unpack(tmp_path / "a.zip", [FileEntry("train", "ts", "a.ts")], tmp_path / "root")


def _checkpoint() -> bytes:
    stream = io.BytesIO()
    torch.save({"state_dict": {"weight": torch.arange(64.0)}}, stream)
    return stream.getvalue()


def test_torch_reads_a_flipped_bit_as_another_weight_and_we_do_not(tmp_path):
    path, content = tmp_path / "last.ckpt", bytearray(_checkpoint())
    content[content.index(torch.arange(64.0).numpy().tobytes()) + 10] ^= 1
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)["state_dict"]["weight"].tolist() != list(range(64))
    with pytest.raises(CheckpointError, match="Bad CRC-32"):
        read_checkpoint(path)


def test_a_tensor_that_looks_like_a_folder_is_not_filled_from_memory(tmp_path):
    path, stream = tmp_path / "last.ckpt", io.BytesIO(_checkpoint())
    with zipfile.ZipFile(stream) as source, zipfile.ZipFile(path, "w") as target:
        for member in source.infolist():
            copy = zipfile.ZipInfo(member.filename)
            copy.external_attr = 0x10 if member.filename.endswith("data/0") else 0
            target.writestr(copy, source.read(member))
    with pytest.raises(CheckpointError, match="as a folder"):
        read_checkpoint(path)


def test_a_directory_damaged_in_its_middle_loses_no_array(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, arrival_times=np.zeros(3), marks=np.ones(3))
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 33] = 1  # the first entry's comment is said to reach into the second
    path.write_bytes(content)
    with np.load(path) as stored:
        assert stored.files == ["arrival_times"]
    with pytest.raises(NpzError, match="another number of members"):
        read_arrays(path)


def test_an_array_without_its_ending_is_not_given_as_bytes(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, times=np.zeros(3))
    path.write_bytes(path.read_bytes().replace(b"times.npy", b"times.np_"))
    with pytest.raises(NpzError, match="not arrays with names"):
        read_arrays(path)
