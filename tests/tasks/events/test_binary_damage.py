"""Parquet, npz and pickles cut and flipped: nothing but DatasetError escapes, and what is checksummed reads back true.

A pickle and a parquet page carry no checksum, so an altered digit is a value to their readers. A parquet file is
therefore hashed before it is parsed; a pickle is read once, by the import of one's own copy.
"""

from __future__ import annotations

import io
import pickle
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.data import load_cached, verified
from tasks.errors import DatasetError
from tasks.events import importers
from tasks.events.data import parse
from tasks.events.readers import read_npz, read_parquet
from tasks.events.sequences import EventSequences
from tasks.events.unpickle import read_pickle
from tasks.locate import Resolved
from tasks.suite.manifest import FileEntry, VariantEntry
from tasks.verify import measure


@pytest.fixture
def parquet(tmp_path):
    path = tmp_path / "events.parquet"
    table = pa.table(
        {
            "sequence": np.array([0, 0, 0, 1, 1], np.int32),
            "time": np.array([1.0, 2.0, 5.0, 0.5, 7.25]),
            "mark": np.array([0, 3, 1, 2, 2], np.int32),
            "split": ["train"] * 3 + ["test"] * 2,
        }
    )
    pq.write_table(table.replace_schema_metadata({"n_marks": "4", "unit": "hours", "window_end": "100"}), path)
    return path


def test_parquet_reader_raises_nothing_but_dataset_errors(parquet, damaged, foreign):
    whole, refused = parquet.read_bytes(), 0
    for name, content in damaged(whole):
        parquet.write_bytes(content)
        try:
            assert isinstance(read_parquet(parquet), EventSequences)
            assert not name.startswith("cut")
        except DatasetError:
            refused += 1
    assert refused > 200
    for content in foreign(whole).values():
        parquet.write_bytes(content)
        with pytest.raises(DatasetError, match="no readable parquet"):
            read_parquet(parquet)


def test_every_altered_parquet_is_refused_before_it_is_parsed(parquet, damaged, foreign, tmp_path, monkeypatch):
    monkeypatch.setenv("AAREN_CACHE", str(tmp_path / "cache"))
    whole, parsed = parquet.read_bytes(), []

    def counting(source):
        parsed.append(source)
        return parse(source)

    sha256 = measure(parquet).sha256
    row = FileEntry("events", "parquet", "events.parquet", bytes=len(whole), sha256=sha256)
    entry = VariantEntry("official", "none stated", {"sequences": 2, "events": 5}, (row,))
    files, rows = MappingProxyType({"events": parquet}), MappingProxyType({"events": row})
    source = Resolved("extra/toy", "events", "official", files, {"events": sha256}, "data root", entry, rows)
    arrays = load_cached(source, counting, 1)
    assert arrays["times"].tolist() == [1.0, 2.0, 5.0, 0.5, 7.25]
    assert len(parsed) == 1
    altered = [*foreign(whole).values(), b"\xef\xbb\xbf" + whole, *(content for _, content in damaged(whole))]
    for place, content in enumerate(altered):
        parquet.write_bytes(content)
        with pytest.raises(DatasetError) as caught:
            verified(source)
        assert caught.value.path == str(parquet)
        if place % 10 == 0:
            with pytest.raises(DatasetError):
                load_cached(source, counting, 2)  # another version: the parser would have to run
    assert len(parsed) == 1
    parquet.write_bytes(whole)
    assert np.array_equal(load_cached(source, counting, 2)["times"], arrays["times"])


def _ifl(path):
    sequences = importers.read_ifl(path, 3, "seconds", (0.0, 10.0))
    return sequences.to_arrays()


def _ifl_file():
    times, marks, stream = np.empty(2, object), np.empty(2, object), io.BytesIO()
    times[:], marks[:] = [[0.0, 5.0, 9.0], np.array([1.0, 2.0])], [[0, 1, 2], np.array([1, 1])]
    np.savez(stream, arrival_times=times, marks=marks)
    return stream.getvalue()


def test_npz_files_read_back_true_or_not_at_all(random_sequences, damaged, foreign, tmp_path):
    path, stream = tmp_path / "events.npz", io.BytesIO()
    np.savez(stream, **random_sequences(n=3, longest=4).to_arrays())
    for whole, read in ((stream.getvalue(), read_npz), (_ifl_file(), _ifl)):
        path.write_bytes(whole)
        true = read(path)
        for name, content in damaged(whole):
            path.write_bytes(content)
            try:
                found = read(path)
            except DatasetError:
                continue
            assert not name.startswith("cut")  # the directory of a zip is its end
            assert found.keys() == true.keys()
            assert all(np.array_equal(found[key], true[key], equal_nan=found[key].dtype.kind == "f") for key in true)
        for content in foreign(whole).values():
            path.write_bytes(content)
            with pytest.raises(DatasetError):
                read(path)


class _NoNames(pickle.Unpickler):
    def find_class(self, module, name):
        raise pickle.UnpicklingError(name)


@pytest.mark.parametrize("protocol", [2, 4])
def test_neural_hawkes_pickles_are_refused_or_read_as_they_stand(damaged, foreign, tmp_path, protocol):
    def dump(part, rows):
        events = [[{"time_since_start": t, "type_event": m} for t, m in row] for row in rows]
        return pickle.dumps({"dim_process": 4, part: events}, protocol=protocol)

    whole = dump("train", [[(0.5, 1), (2.25, 3)], [(0.0, 0), (0.5, 0), (7.0, 2)]])
    (tmp_path / "dev.pkl").write_bytes(dump("dev", []))
    (tmp_path / "test.pkl").write_bytes(dump("test", [[(1.0, 2)]]))
    path = tmp_path / "train.pkl"
    accepted = 0
    for name, content in damaged(whole, seed=protocol):
        path.write_bytes(content)
        try:
            found = importers.read_neural_hawkes(tmp_path, 4, "years")
        except DatasetError:
            continue
        assert not name.startswith("cut")
        accepted += 1
        stands = _NoNames(io.BytesIO(content), encoding="latin1").load()["train"]
        events = [event for sequence in stands for event in sequence]
        assert found.times.tolist() == [*(event["time_since_start"] for event in events), 1.0], name
        assert found.marks.tolist() == [*(event["type_event"] for event in events), 2], name
        assert found.lengths.tolist() == [*(len(sequence) for sequence in stands), 1], name
    assert accepted
    for content in foreign(whole).values():
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=r"train\.pkl: refused as a pickle"):
            importers.read_neural_hawkes(tmp_path, 4, "years")


def test_a_memo_index_that_would_fill_the_memory_is_refused(tmp_path):
    path = tmp_path / "train.pkl"
    path.write_bytes(b"\x80\x02}r\xff\xff\xff\x7f.")  # 9 bytes that ask for 32 GB
    with pytest.raises(DatasetError, match="memo index 2147483647 in a pickle of 9 bytes"):
        read_pickle(path)
