"""What a job costs by measured steps: updates counted as the protocols do, time scaled with the arithmetic."""

from __future__ import annotations

import pytest

from tasks.suite.costs import Work, measured_steps, seconds, work_of

WIDE = "size,batch,tokens,d_model,d_ff,layers,heads,aaren_ms,transformer_ms\nx,16,100,64,128,2,4,20.0,30.0\n"
HEADER = "size,model,batch,tokens,d_model,d_ff,layers,heads,ms\n"
LONG = f"{HEADER}x,aaren,16,100,64,128,2,4,2.0\nx,transformer,16,100,64,128,2,4,1.0\n"
SIZES = {"d_model": 64, "d_ff": 128, "n_layers": 2}


def _cfg(family, horizon=None, budget=None, **task):
    budget = {"max_steps": None, "max_epochs": 10} | (budget or {})
    data = {"batch_size": 16} | task.pop("data", {})
    return {"task": {"family": family, "model": SIZES, "budget": budget, "data": data, **task}, "horizon": horizon}


def test_measured_steps_of_either_form_and_device(tmp_path):
    (tmp_path / "train-step-1threads.csv").write_text(WIDE)
    (tmp_path / "gpu-training.csv").write_text(LONG)
    (tmp_path / "train-other.csv").write_text("tokens,ms\n1,2\n")
    (cpu,), (gpu,) = measured_steps(False, tmp_path), measured_steps(True, tmp_path)
    assert cpu.ms == {"aaren": 20.0, "transformer": 30.0}
    assert gpu.ms == {"aaren": 2.0, "transformer": 1.0}
    assert cpu.work == gpu.work == Work(1, 16, 100, 64, 128, 2)
    assert measured_steps(True, tmp_path / "nowhere") == []


def test_the_shipped_measurements_are_read():
    steps = measured_steps(gpu=False)
    assert len(steps) >= 3
    assert all(ms > 0 for step in steps for ms in step.ms.values())


def test_updates_are_counted_as_the_protocol_says():
    ett = _cfg("forecasting", 96, history=96, data={"rows": [8640, 2880, 2880], "batch_size": 32})
    # 8449 training windows at horizon 96: 265 updates an epoch
    assert work_of(ett, {"rows": 17420}) == Work(2650, 32, 192, 64, 128, 2)
    assert work_of(_cfg("forecasting", 96, history=96, data={"batch_size": 32}), {"rows": 7588}).updates == 1600
    # JapaneseVowels: 216 of 270 cases train, 14 updates an epoch
    assert work_of(_cfg("classification"), {"train": 270, "length_max": 29}) == Work(140, 16, 29, 64, 128, 2)
    assert work_of(_cfg("events"), {"sequences": 1000, "events": 157471}) == Work(380, 16, 157, 64, 128, 2)
    rl = _cfg("rl", budget={"max_steps": 20000}, data={"context": 20, "batch_size": 64})
    assert work_of(rl, {}) == Work(20000, 64, 60, 64, 128, 2)


@pytest.mark.parametrize(
    ("cfg", "shape"),
    [
        (_cfg("classification"), {}),
        (_cfg("poetry"), {"train": 5}),
        (_cfg("rl", data={"context": 20}), {}),  # epochs of windows drawn with replacement: not told
        (_cfg("classification", budget={"max_epochs": None}), {"train": 270, "length_max": 29}),
    ],
)
def test_what_cannot_be_told_is_none(cfg, shape):
    assert work_of(cfg, shape) is None


def test_time_scales_with_updates_and_arithmetic(tmp_path):
    (tmp_path / "train.csv").write_text(WIDE)
    steps = measured_steps(False, tmp_path)
    assert seconds(Work(1000, 16, 100, 64, 128, 2), "aaren", steps) == pytest.approx(20.0)
    assert seconds(Work(1000, 32, 200, 64, 128, 4), "transformer", steps) == pytest.approx(240.0)
    assert seconds(Work(1000, 16, 100, 64, 128, 2), "mean", steps) == pytest.approx(20.0)
    assert seconds(Work(1, 1, 1, 1, 1, 1), "aaren", []) is None
