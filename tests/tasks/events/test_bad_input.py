"""Every kind of bad event data on the way a user meets it: a file, an import or a job. Refused by place, or ruled."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tasks.errors import ConfigError, DatasetError
from tasks.events import build_task, importers, layouts
from tasks.events.readers import read_npz, read_parquet

SIZES = {"d_model": 16, "n_layers": 1, "n_heads": 1, "d_ff": 16, "dropout": 0.0, "gap_input": True}
STAMPS = np.array([1.3e9, 1.3e9 + 1000, 1.3e9 + 2000])


def _neural_hawkes(folder, **parts):
    folder.mkdir(exist_ok=True)
    for name in ("train", "dev", "test"):
        rows = parts.get(name, [[(0.5, 1), (1.5, 0)]])
        events = [[{"time_since_start": t, "type_event": m} for t, m in row] for row in rows]
        (folder / f"{name}.pkl").write_bytes(pickle.dumps({name: events}))
    return folder


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([(2.0, 0), (1.0, 0)], "sequence 1, event 1: time 1 comes before 2"),
        ([(1.0, 0), (float("nan"), 0)], "sequence 1, event 1: time nan is not finite"),
        ([(1.0, 0), (2.0, 4)], "sequence 1, event 1: mark 4 outside the declared 0 to 3"),
        ([(1.0, 0), (2.0, 0.7)], "sequence 1, event 1: mark 0.7 is no integer"),
        ([(1.0, "1"), (2.0, 0)], "sequence 1: marks are no list of numbers"),
        ([("1.0", 1), ("2.0", 0)], "sequence 1: times are no list of numbers"),
        ([(None, 1)], "sequence 1: times are no list of numbers"),
        ([], "sequence 1 is empty"),
    ],
)
def test_neural_hawkes_faults_are_named_by_file_and_sequence(tmp_path, row, said):
    folder = _neural_hawkes(tmp_path / "nh", test=[[(0.5, 1), (1.5, 0)], row])
    with pytest.raises(DatasetError) as caught:
        importers.read_neural_hawkes(folder, 4, "years")
    assert caught.value.path == str(folder / "test.pkl")
    assert said in caught.value.reason
    assert caught.value.fix


@pytest.mark.parametrize(
    ("times", "marks", "said"),
    [
        ("1 2\n3 2.5\n", "1 1\n1 1\n", "sequence 1, event 1: time 2.5 comes before 3"),
        ("1 2\n3 4\n", "1 1\n1 0\n", "sequence 1, event 1: mark -1 outside"),
        ("1 2\n3 4\n", "1 1\n1 6\n", "sequence 1, event 1: mark 5 outside the declared 0 to 4"),
        ("1 2\n3 99\n", "1 1\n1 1\n", "sequence 1, event 1: time 99 outside its window [0, 50]"),
        ("1 2\n3 1e400\n", "1 1\n1 1\n", "sequence 1, event 1: time inf is not finite"),
        ("1 2\n3 4\n", "1 1\n1 1e300\n", "mark 1e+300 outside"),
        ("1 2\n3 nan\n", "1 1\n1 1\n", "line 2 has 'n'"),
    ],
)
def test_rmtpp_faults_are_named_by_file_and_row(tmp_path, times, marks, said):
    for part, (t, m) in {"train": ("1 2\n", "1 1\n"), "test": (times, marks)}.items():
        (tmp_path / f"time-1-{part}.txt").write_text(t)
        (tmp_path / f"event-1-{part}.txt").write_text(m)
    with pytest.raises(DatasetError) as caught:
        layouts.read_rmtpp(tmp_path, 1, n_marks=5, unit="seconds", start=0.0, end=50.0)
    assert caught.value.path == str(tmp_path / "time-1-test.txt")
    assert said in caught.value.reason


def test_unix_seconds_in_float32_are_refused_by_every_binary_reader(tmp_path, random_sequences):
    coarse = STAMPS.astype(np.float32)
    said = r"float32 times near 1\.3e\+09 are only exact to 128"
    path = tmp_path / "events.parquet"
    columns = {"sequence": [0] * 3, "time": coarse, "mark": [0] * 3, "split": ["all"] * 3}
    pq.write_table(pa.table(columns).replace_schema_metadata({"n_marks": "1", "unit": "seconds"}), path)
    with pytest.raises(DatasetError, match=f"column time: {said}"):
        read_parquet(path)
    path = tmp_path / "ours.npz"
    arrays = random_sequences(n=3).to_arrays()
    np.savez(path, **arrays | {"times": (arrays["times"] + 1.3e9).astype(np.float32)})
    with pytest.raises(DatasetError, match="times: float32 times"):
        read_npz(path)
    np.savez(path, arrival_times=coarse[None], marks=np.zeros((1, 3), int))
    with pytest.raises(DatasetError, match=f"sequence 0: {said}"):
        importers.read_ifl(path, 1, "seconds", None)
    folder = _neural_hawkes(tmp_path / "nh", train=[[(t, 0) for t in coarse]])
    with pytest.raises(DatasetError, match=f"sequence 0: {said}"):
        importers.read_neural_hawkes(folder, 4, "seconds")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"arrival_times": np.array([1.0, 2.0])}, "sequence 0: times are no list of numbers"),
        ({"arrival_times": np.array([["1", "2"]])}, "sequence 0: times are no list of numbers"),
        ({"arrival_times": np.ones((1, 2, 2))}, "sequence 0: times are no list of numbers"),
        ({"arrival_times": np.array([[2.0, 1.0]])}, "time 1 comes before 2"),
        ({"arrival_times": np.array([[1.0, 11.0]])}, r"outside its window \[0, 10\]"),
        ({"arrival_times": np.array([[1.0, 2.0]]), "marks": np.array([[0, 3]])}, "mark 3 outside the declared 0 to 2"),
    ],
)
def test_ifl_faults_are_named(tmp_path, arrays, said):
    path = tmp_path / "set.npz"
    np.savez(path, **arrays)
    with pytest.raises(DatasetError, match=said):
        importers.read_ifl(path, 3, "seconds", (0.0, 10.0))


def test_csv_columns_in_another_order_are_refused(tmp_path):
    path = tmp_path / "mooc.csv"
    path.write_text("item_id,user_id,timestamp,state_label,features\n5,0,0.0,0,1\n6,0,1.0,0,1\n")
    with pytest.raises(DatasetError, match="columns are item_id, user_id, timestamp"):
        layouts.read_jodie(path, by_item=False, n_marks=97, end=10.0)
    path.write_text("user_id,item_id,timestamp,state_label,features\n0.5,5,0.0,0,1\n")
    with pytest.raises(DatasetError, match=r"data row 1: user is 0\.5"):
        layouts.read_jodie(path, by_item=False, n_marks=97, end=10.0)
    path.write_text("tpep_pickup_datetime,PULocationID\n2016-01-31 06:00:00,3\n01/02/2016 07:00,3\n")
    with pytest.raises(DatasetError, match=r"data row 2: '01/02/2016 07:00' is no date.*2015-01-31"):
        layouts.read_tlc(path)  # a guess would take the month for the day, or the other way round


def test_repeated_times_stop_a_job_with_its_file_or_follow_the_rule(make_data, make_sequences):
    rows = [[0.0, 1.0, 1.0, 3.0, 3.5 + s] for s in range(10)]
    with pytest.raises(DatasetError, match=r"events\.txt: sequence 0, event 2: the time 1 repeats\. Fix: .*ties=merge"):
        make_data(make_sequences(rows))
    merged = make_data(make_sequences(rows), ties="merge")
    assert merged.splits["train"].lengths.tolist() == [4] * 6
    assert (merged.batch("train", np.arange(6)).gap > 0).all()


def test_single_events_are_input_and_a_split_of_nothing_else_is_refused(make_data, make_sequences):
    rows = [[0.0, 1.0 + s, 15.0] for s in range(9)]
    mixed = make_data(make_sequences([*rows, [2.0]]))
    batch = mixed.batch("test", np.arange(2))
    assert len(batch.gap) == 2  # of the sequence of three; the single event waits for its successor in vain
    with pytest.raises(DatasetError, match=r"events\.txt: every test sequence has a single event.*task\.data\.split"):
        make_data(make_sequences([*rows[:8], [1.0], [2.0]]))


def test_a_mark_that_only_test_has_is_scored_by_every_model(make_data, make_sequences):
    """The declared vocabulary counts, not the marks seen in training: all get a probability above zero."""
    rng = np.random.default_rng(0)
    times = [np.cumsum(rng.exponential(1.0, 8)) for _ in range(10)]
    marks = [rng.integers(0, 2, 8) for _ in range(8)] + [np.array([0, 4, 3, 4, 4, 1, 2, 3])] * 2
    data = make_data(make_sequences(times, marks, n_marks=5))
    assert set(data.splits["train"].marks) == {0, 1}
    learned, rules = ("aaren", "transformer"), ("repeat_mark", "most_common_mark", "markov", "static_lognormal")
    for name in (*learned, *rules):
        model = {"name": name, "attention": name if name in learned else None}
        optim = {"name": "adam", "lr": 1e-3}
        cfg = {"model": model, "task": {"model": SIZES, "optim": optim}, "seed": 0, "protocol": "honest"}
        task = build_task(cfg, data).eval()
        with torch.no_grad():
            task.update_metrics("test", data.batch("test", np.arange(2)))
        measures = task.compute_metrics("test")
        assert all(np.isfinite(m.value) for m in measures.values()), name
    with pytest.raises(DatasetError, match=r"sequence 8, event 1: mark 4 outside the declared 0 to 3.*test marks"):
        make_sequences(times, marks, n_marks=4)


class _Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_no_import_and_no_job_runs_a_payload(tmp_path, random_sequences):
    mark, folder = tmp_path / "ran", _neural_hawkes(tmp_path / "nh")
    event = {"time_since_start": 1.0, "type_event": _Payload(mark)}
    (folder / "test.pkl").write_bytes(pickle.dumps({"test": [[event]]}))
    with pytest.raises(DatasetError, match=r"test\.pkl: refused as a pickle.*allow-list"):
        importers.import_set("MIMIC", folder)
    path = tmp_path / "mimic.npz"
    arrays = random_sequences(n=3).to_arrays()
    for name in ("marks", "folds", "extra"):
        np.savez(path, **arrays | {name: np.array([_Payload(mark)] * len(arrays["marks"]), dtype=object)})
        with pytest.raises(DatasetError, match="no event file of ours"):
            read_npz(path)
    assert not mark.exists()


def test_parquet_of_other_types_and_a_clock_without_a_known_unit(tmp_path, make_data, make_sequences):
    good = {"sequence": [0, 0], "time": [1.0, 2.0], "mark": [0, 0], "split": ["all"] * 2}
    path = tmp_path / "events.parquet"
    for column, values, said in (
        ("time", pa.array([1, 2], pa.timestamp("s")), "column time holds timestamp"),
        ("time", ["1", "2"], "column time holds string"),
        ("mark", ["a", "b"], "column mark holds string"),
        ("sequence", [0.0, 0.0], "column sequence holds double"),
        ("split", [0, 0], "column split holds int64"),
        ("split", [["all"], ["all"]], "column split holds list"),
    ):
        table = pa.table(good | {column: values})
        pq.write_table(table.replace_schema_metadata({"n_marks": "1", "unit": "seconds"}), path)
        with pytest.raises(DatasetError, match=said):
            read_parquet(path)
    for meta, said in (({"capped_sequences": "[5]"}, "not there"), ({"window_end": "inf"}, "window's end is infinite")):
        pq.write_table(pa.table(good).replace_schema_metadata({"n_marks": "1", "unit": "seconds"} | meta), path)
        with pytest.raises(DatasetError, match=said):
            read_parquet(path)
    with pytest.raises(ConfigError, match=r"task\.data\.unit='seconds'"):
        make_data(make_sequences([[0.0, 1.0 + s] for s in range(10)], unit="1"), unit="seconds")
