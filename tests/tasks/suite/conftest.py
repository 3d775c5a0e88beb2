"""Records as a job would leave them, with whatever a test wants to be different."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tasks.suite.records import checksum, compose

METRICS = {
    "forecasting": {"mse": (0.4, False), "mae": (0.41, False)},
    "classification": {"accuracy": (0.9, True)},
    "events": {"nll": (1.5, False), "rmse": (2.0, False), "accuracy": (0.5, True)},
    "rl": {"normalized_score": (42.0, True), "excess_action_error": (0.01, False)},
}


def job_config(
    *,
    family: str = "forecasting",
    dataset: str = "ETTh1",
    model: str = "aaren",
    seed: int = 0,
    horizon: int | None = 192,
    profile: str = "quick",
    protocol: str = "honest",
    version: int = 1,
    fold: int | None = None,
    lr: float = 1e-3,
    trivial: bool = False,
) -> dict[str, Any]:
    return {
        "task": {"family": family, "protocol_version": version, "optim": {"name": "adam", "lr": lr}},
        "dataset": {"name": dataset, "variant": "auto"},
        "model": {"name": model, "attention": None if trivial else model},
        "seed": seed,
        "horizon": horizon if family == "forecasting" else None,
        "fold": fold,
        "profile": profile,
        "protocol": protocol,
        "device": "cpu",
    }


def job_record(
    *,
    values: dict[str, float] | None = None,
    status: str = "done",
    variant: str | None = "official",
    label: str | None = None,
    n: int = 100,
    reason: str | None = None,
    sources: dict[str, str] | None = None,
    facts: dict[str, Any] | None = None,
    **config: Any,
) -> dict[str, Any]:
    cfg = job_config(**config)
    family, dataset = cfg["task"]["family"], cfg["dataset"]["name"]
    named = METRICS[family] if values is None else {k: (v, METRICS[family][k][1]) for k, v in values.items()}
    test = {k: {"value": v, "n": n, "unit": "", "higher_is_better": h} for k, (v, h) in named.items()}
    trained = cfg["model"]["attention"] is not None
    record = compose(
        cfg,
        dataset=dataset,
        label=label or dataset,
        variant=variant,
        status=status,
        sha256={"data": "ab" * 32} if sources is None else sources,
        source="data root",
        metrics={"test": test} if status == "done" else {},
        reason=reason or (None if status == "done" else "it broke"),
        selection={"split": "val", "metric": "mse", "epoch": 3} if trained and status == "done" else None,
        **{"cpu_seconds": 10.0, "wall_seconds": 6.0, "finished": "2026-01-01T00:00:00+00:00"} | (facts or {}),
    )
    record["git"] = {"commit": "c0ffee" * 6 + "c0ff", "dirty": False}
    record["packages"] = {"python": "3.11.7"}
    record["hardware"] = {"cpu": "Some CPU", "cores": 2, "gpu": None}
    record["checksum"] = checksum(record)
    return record


@pytest.fixture
def make_record() -> Callable[..., dict[str, Any]]:
    return job_record


@pytest.fixture
def make_config() -> Callable[..., dict[str, Any]]:
    return job_config


@pytest.fixture
def varied_records() -> list[dict[str, Any]]:
    """Two models, three seeds, three horizons, a trivial rule, a failed job, another variant, a known set."""
    records = []
    for model, offset in (("aaren", 0.0), ("transformer", 0.02)):
        for seed in range(3):
            for horizon in (96, 192, 336, 720):
                base = 0.4 + horizon / 1000 + offset + 0.001 * seed * (1 + offset)
                records.append(
                    job_record(model=model, seed=seed, horizon=horizon, values={"mse": base, "mae": base + 0.05})
                )
            records.append(
                job_record(family="classification", dataset="JapaneseVowels", model=model, seed=seed, n=370,
                           values={"accuracy": 0.97 + offset / 2 - 0.001 * seed})
            )  # fmt: skip
    records.append(job_record(model="repeat_last", trivial=True, values={"mse": 0.3, "mae": 0.35}, horizon=192))
    failed = {"type": "FloatingPointError", "message": "loss is nan", "step": 12, "batch": 12}
    records.append(job_record(dataset="ETTh2", model="aaren", seed=0, values={"mse": 0.5, "mae": 0.5}))
    records.append(job_record(dataset="ETTh2", model="aaren", seed=1, status="failed", facts={"error": failed}))
    records.append(job_record(dataset="ETTh2", model="transformer", seed=0, status="failed"))
    records.append(
        job_record(family="events", dataset="Uber", label="Uber-sample", variant="sample",
                   values={"nll": 3.4, "rmse": 19.0})
    )  # fmt: skip
    records.append(job_record(dataset="known/seasonal", variant="synthetic", sources={}))
    records.append(
        job_record(family="classification", dataset="Heartbeat", variant=None, status="unavailable", sources={},
                   reason="Heartbeat (official) was not found", facts={"fix": "bring Heartbeat_TRAIN.ts"})
    )  # fmt: skip
    return copy.deepcopy(records)
