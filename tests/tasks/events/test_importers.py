"""A user's own files, in every published layout, made up here in the same shape; and pickles that mean harm."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

from tasks.errors import ConfigError, DatasetError
from tasks.events import importers, layouts
from tasks.events.readers import read_npz
from tasks.events.sequences import EventSequences
from tasks.events.twins import mimic_twin
from tasks.events.unpickle import read_object_npz, read_pickle


class _Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def write_neural_hawkes(tmp_path):
    def write(folder, sequences, label):
        folder.mkdir(parents=True)
        ends = list(zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True))
        for code, (part, name) in enumerate(importers.PICKLES):
            rows = []
            for s in np.flatnonzero(label == code):
                a, b = ends[s]
                pairs = zip(sequences.times[a:b], sequences.marks[a:b], strict=True)
                rows.append([{"time_since_start": float(t), "type_event": int(m), "idx_event": 1} for t, m in pairs])
            (folder / name).write_bytes(pickle.dumps({"dim_process": 75, part: rows, "args": None}, protocol=2))
        return folder

    return write


def _text(rows):
    return "\n".join(" ".join(f"{v:.17g}" for v in row) for row in rows) + "\n"


def test_mimic_of_neural_hawkes_with_its_folds(write_neural_hawkes, tmp_path, monkeypatch):
    monkeypatch.setenv("AAREN_DATA", str(tmp_path / "root"))
    sequences, folds = mimic_twin(0)
    for k in range(5):
        write_neural_hawkes(tmp_path / "mimic" / f"fold{k + 1}", sequences, folds[k])
    target = importers.import_set("mimic", tmp_path / "mimic")
    assert target == tmp_path / "root" / "events" / "mimic.npz"
    arrays = read_npz(target)
    found = EventSequences.from_arrays(arrays)
    assert (found.n_sequences, len(found.times), found.n_marks, found.unit) == (650, 2419, 75, "years")
    for k in range(5):
        assert np.bincount(arrays["folds"][k]).tolist() == [527, 58, 65]
        ours = sorted(found.times[found.offsets[s]] for s in np.flatnonzero(arrays["folds"][k] == 2))
        theirs = sorted(sequences.times[sequences.offsets[s]] for s in np.flatnonzero(folds[k] == 2))
        assert ours == theirs
    ends = zip(found.offsets[:-1], found.offsets[1:], strict=True)
    assert sorted(found.times[a:b].sum() for a, b in ends) == pytest.approx(
        sorted(np.add.reduceat(sequences.times, sequences.offsets[:-1]))
    )


def test_an_imported_set_resolves_as_official(write_neural_hawkes, tmp_path, monkeypatch):
    from tasks.data import load_cached, resolve
    from tasks.events.data import PARSE_VERSION, parse

    monkeypatch.setenv("AAREN_DATA", str(tmp_path / "root"))
    monkeypatch.setenv("AAREN_CACHE", str(tmp_path / "cache"))
    assert resolve("MIMIC").label == "MIMIC-synthetic"
    sequences, folds = mimic_twin(0)
    write_neural_hawkes(tmp_path / "fold1", sequences, folds[0])
    importers.import_set("MIMIC", tmp_path / "fold1")
    resolved = resolve("MIMIC")
    assert (resolved.label, resolved.source) == ("MIMIC", "data root")
    arrays = load_cached(resolved, parse, PARSE_VERSION)
    assert arrays["folds"].shape == (1, 650)


def test_folds_of_other_sequences_are_refused(write_neural_hawkes, tmp_path):
    for k in range(2):
        sequences, folds = mimic_twin(k)
        write_neural_hawkes(tmp_path / f"fold{k + 1}", sequences, folds[0])
    with pytest.raises(DatasetError, match="does not hold the sequences of fold 1"):
        importers.IMPORTERS["MIMIC"](tmp_path)


def test_rmtpp_text_splits_its_train_rows(tmp_path):
    rng = np.random.default_rng(0)
    start = 1325376000.0
    times = [start + np.sort(rng.uniform(0, 6e7, n)) for n in rng.integers(2, 9, 34)]
    marks = [rng.integers(1, 23, len(t)) for t in times]
    for part, rows in (("train", slice(0, 24)), ("test", slice(24, 34))):
        (tmp_path / f"time-1-{part}.txt").write_text(_text(times[rows]))
        (tmp_path / f"event-1-{part}.txt").write_text(_text(marks[rows]))
    found, _ = importers.IMPORTERS["StackOverflow"](tmp_path)
    assert found.split.tolist() == [0] * 22 + [1] * 2 + [2] * 10
    assert found.times == pytest.approx(np.concatenate(times) - start, abs=1e-6)
    assert found.marks.tolist() == (np.concatenate(marks) - 1).tolist()
    assert found.window_end[0] == 63158400
    with pytest.raises(DatasetError, match="sequences is 34, published 6633"):
        importers.import_set("StackOverflow", tmp_path)
    for content, said in (("1 2 x\n", "line 1"), ("1 2\n\n3\n", "line 2 is empty")):
        (tmp_path / "event-1-train.txt").write_text(content)
        with pytest.raises(DatasetError, match=said):
            importers.IMPORTERS["StackOverflow"](tmp_path)


def test_jodie_groups_by_user_or_by_item(tmp_path):
    path = tmp_path / "mooc.csv"
    header = "user_id,item_id,timestamp,state_label,comma_separated_list_of_features\n"
    path.write_text(header + "0,5,0.0,0,-0.3,-0.4\n1,2,3.5,0,-0.3,-0.4\n0,6,9.0,1,-0.3,-0.4\n1,5,9.0,0,0.1,0.2\n")
    users = layouts.read_jodie(path, by_item=False, n_marks=7, end=20.0)
    assert users.times.tolist() == [0, 9, 3.5, 9]
    assert users.marks.tolist() == [5, 6, 2, 5]
    assert users.lengths.tolist() == [2, 2]
    items = layouts.read_jodie(path, by_item=True, n_marks=2, end=20.0)
    assert items.times.tolist() == [3.5, 0, 9, 9]
    assert items.marks.tolist() == [1, 0, 1, 0]
    for content, said in (
        (header, "no event"),
        (header + "0,5\n", "csv|empty cell"),
        (header + "0,5,noon,0,1\n", "data row 1: time is 'noon'"),
        (header + "0,9,1.0,0,1\n", "mark 9 outside the declared 0 to 6"),
        (header + "0,5,25.0,0,1\n", "outside its window"),
    ):
        path.write_text(content)
        with pytest.raises(DatasetError, match=said):
            layouts.read_jodie(path, by_item=False, n_marks=7, end=20.0)


def test_uber_recipe_merges_drops_and_cuts(tmp_path):
    path = tmp_path / "uber.csv"
    rows = ["Dispatching_base_num,Pickup_date,Affiliated_base_num,locationID"]
    rows += [f"B1,2015-01-01 {h:02d}:30:00,B1,7" for h in (3, 1, 1, 2, 4)]  # a tie
    rows += [f"B1,2015-01-02 0{h}:00:00,B1,8" for h in range(2)]  # too short
    rows += [f"B2,2015-01-02 0{h}:00:00,B1,7" for h in range(6)]  # longer than the cap
    path.write_text("\n".join(rows) + "\n")
    found = layouts.read_foil(path, shortest=3, longest=5)
    assert found.lengths.tolist() == [4, 5]
    assert found.times.tolist() == [1.5, 2.5, 3.5, 4.5, 24, 25, 26, 27, 28]
    assert found.window_end[0] == 4344
    assert np.isnan(found.window_end[1])
    path.write_text("Dispatching_base_num,when,locationID\nB1,2015-01-01 00:00:00,7\n")
    with pytest.raises(DatasetError, match="cannot be read as csv"):
        layouts.read_foil(path)
    path.write_text(rows[0] + "\nB1,yesterday,B1,7\n")
    with pytest.raises(DatasetError, match="data row 1: 'yesterday' is no date"):
        layouts.read_foil(path)


def test_taxi_by_medallion_or_by_zone_and_day(tmp_path):
    path = tmp_path / "taxi.csv"
    path.write_text("medallion, pickup_datetime\nA,2013-01-02 01:00:00\nA,2013-01-01 12:00:00\nB,2013-01-01 00:30:00\n")
    found = layouts.read_tlc(path)
    assert found.times.tolist() == [12, 25, 0.5]
    assert np.isnan(found.window_end).all()
    path.write_text(
        "tpep_pickup_datetime,PULocationID\n2016-01-01 06:00:00,3\n2016-01-02 07:00:00,3\n2016-01-01 08:00:00,3\n"
    )
    found = layouts.read_tlc(path)
    assert found.times.tolist() == [6, 8, 7]
    assert found.window_end.tolist() == [24, 24]
    path.write_text("pickup,zone\n1,2\n")
    with pytest.raises(DatasetError, match="columns are pickup, zone"):
        layouts.read_tlc(path)


def test_ifl_npz_holds_lists_of_sequences(tmp_path):
    path = tmp_path / "wiki.npz"
    times, marks = np.empty(2, object), np.empty(2, object)
    times[:], marks[:] = [[0.0, 5.0, 9.0], np.array([1.0, 2.0])], [[0, 1, 2], np.array([1, 1])]
    np.savez(path, arrival_times=times, marks=marks)
    found = importers.read_ifl(path, 3, "seconds", (0.0, 10.0))
    assert found.times.tolist() == [0, 5, 9, 1, 2]
    assert found.marks.tolist() == [0, 1, 2, 1, 1]
    np.savez(path, other=np.zeros(2))
    with pytest.raises(DatasetError, match="no arrival_times"):
        importers.read_ifl(path, 3, "seconds", None)


@pytest.mark.parametrize("kind", ["plain", "nested", "npz"])
def test_a_payload_never_runs(tmp_path, kind):
    mark = tmp_path / "ran"
    payload = _Payload(mark)
    path = tmp_path / ("evil.npz" if kind == "npz" else "train.pkl")
    if kind == "npz":
        array = np.empty(1, object)
        array[0] = payload
        np.savez(path, arrival_times=array)
    else:
        path.write_bytes(pickle.dumps({"train": [payload]} if kind == "nested" else payload))
    with pytest.raises(DatasetError, match="allow-list"):
        (read_object_npz if kind == "npz" else read_pickle)(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(payload))
    assert mark.exists()  # the payload does work where nothing guards


def test_damaged_pickles_and_unknown_sets_are_refused(tmp_path):
    whole = pickle.dumps({"train": [[{"time_since_start": 1.0, "type_event": 0}]]})
    path = tmp_path / "train.pkl"
    for size in range(0, len(whole) - 1, 3):
        path.write_bytes(whole[:size])
        with pytest.raises(DatasetError, match="refused as a pickle"):
            read_pickle(path)
    path.write_bytes(pickle.dumps({"train": [[{"time": 1.0}]]}))
    (tmp_path / "dev.pkl").write_bytes(pickle.dumps({"dev": []}))
    with pytest.raises(DatasetError, match=r"sequence 0: KeyError: 'time_since_start'"):
        importers.read_neural_hawkes(tmp_path, 75, "years")
    with pytest.raises(ConfigError, match="converters for MIMIC, Wiki"):
        importers.import_set("ETTh1", tmp_path)
    with pytest.raises(DatasetError, match="does not exist"):
        importers.import_set("MIMIC", tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="no layout of MIMIC"):
        importers.import_set("MIMIC", tmp_path / "..")
