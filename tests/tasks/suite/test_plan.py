"""Planning: what is done, what is to do, how long it takes."""

from __future__ import annotations

import time

import pytest

from tasks.suite.layout import DATASETS
from tasks.suite.plan import Request, plan


def _request(make_config, sha=None, unavailable=None, **config):
    cfg = make_config(**config)
    name = cfg["dataset"]["name"]
    overrides = (f"dataset={name}", f"model={cfg['model']['name']}", f"seed={cfg['seed']}")
    sources = {"data": "ab" * 32} if unavailable is None and sha is None else sha or {}
    return Request(cfg, overrides, name, name, sources, unavailable)


def test_statuses(make_config, make_record):
    records = [
        make_record(seed=0),
        make_record(seed=1, status="failed", reason="out of memory"),
        make_record(dataset="ECL", variant=None, status="unavailable", sources={}),
        make_record(seed=3, profile="paper"),
    ]
    requests = [
        *(_request(make_config, seed=seed) for seed in range(4)),
        _request(make_config, dataset="ECL", unavailable="not found. To get it: download it"),
        _request(make_config, seed=0),
    ]
    found = plan(requests, records)
    assert [job.status for job in found.jobs] == ["done", "failed", "missing", "missing", "unavailable"]
    assert found.counts() == {"done": 1, "failed": 1, "unavailable": 1, "missing": 2}
    assert {job.seed for job in found.todo} == {1, 2, 3}
    failed = found.of("failed")[0]
    assert (failed.reason, failed.run_id) == ("out of memory", records[1]["run_id"])
    assert failed.overrides == ("dataset=ETTh1", "model=aaren", "seed=1")
    assert (failed.family, failed.model, failed.horizon, failed.label) == ("forecasting", "aaren", 192, "ETTh1")
    assert found.of("unavailable")[0].reason == "not found. To get it: download it"
    assert found.of("unavailable")[0] not in found.todo


def test_new_options_data_or_protocol_plan_the_job_again(make_config, make_record):
    records = [make_record()]
    for request in (
        _request(make_config, lr=1e-2),
        _request(make_config, version=2),
        _request(make_config, sha={"data": "cd" * 32}),
    ):
        assert plan([request], records).counts()["missing"] == 1


def test_data_that_arrived_make_an_unavailable_job_missing(make_config, make_record):
    records = [make_record(dataset="Sin", family="events", variant=None, status="unavailable", sources={})]
    request = _request(make_config, dataset="Sin", family="events", sha={})
    generated = Request(request.cfg, request.overrides, "Sin", "Sin", {}, None)
    assert plan([generated], records).jobs[0].status == "missing"


def test_force_plans_done_jobs_again(make_config, make_record):
    request = _request(make_config)
    assert plan([request], [make_record()]).todo == ()
    assert [job.status for job in plan([request], [make_record()], force=True).todo] == ["missing"]


def test_estimates_come_from_the_nearest_past(make_config, make_record):
    def seconds(request, records, **constants):
        return plan([request], records, constants).jobs[0].estimate_seconds

    def cost(value, **config):
        return make_record(facts={"cpu_seconds": value}, **config)

    request = _request(make_config, seed=9)
    assert seconds(request, []) is None
    assert seconds(request, [], forecasting=77) == 77
    past = [cost(100.0, profile="paper"), cost(5.0, dataset="ETTh2")]
    assert seconds(request, past, forecasting=77) == 77  # another profile or dataset says nothing
    past.append(cost(40.0, horizon=96))
    assert seconds(request, past, forecasting=77) == 40
    past.append(cost(30.0, model="transformer"))
    assert seconds(request, past, forecasting=77) == 30
    past += [cost(value, seed=seed) for seed, value in enumerate((10.0, 12.0, 90.0))]
    assert seconds(request, past, forecasting=77) == 12
    past.append(cost(0.5, model="repeat_last", trivial=True))
    assert seconds(request, past) == 12
    assert seconds(_request(make_config, model="window_mean", trivial=True), past) == 0.5
    assert seconds(_request(make_config, model="window_mean", trivial=True, dataset="ECL"), past) == 0


def test_wall_time_over_workers(make_config, make_record):
    past = [
        make_record(dataset=name, facts={"cpu_seconds": float(cost)})
        for name, cost in (("ETTh1", 60), ("ETTh2", 30), ("ETTm1", 30))
    ]
    names = ("ETTh1", "ETTh2", "ETTm1")
    found = plan([_request(make_config, dataset=name, seed=1) for name in names], past)
    assert (found.seconds(1), found.seconds(2), found.seconds(8)) == (120, 60, 60)
    assert found.todo[0].dataset == "ETTh1"
    unknown = plan([_request(make_config, dataset=name, seed=1) for name in (*names, "ECL")], past)
    assert unknown.seconds(1) == 150  # the unknown one counts as the median
    assert plan([], past).seconds() == 0


@pytest.mark.timeout(60)
def test_380_jobs_in_no_time(make_config, make_record):
    jobs = [
        {"family": family, "dataset": dataset, "model": model, "seed": seed}
        for family, datasets in DATASETS.items()
        for dataset in datasets
        for model in ("aaren", "transformer")
        for seed in range(5)
    ]
    records = [make_record(**job) for job in jobs[::2]]
    requests = [_request(make_config, **job) for job in jobs]
    start = time.process_time()
    found = plan(requests, records)
    assert time.process_time() - start < 2.5  # the bar is 5 s, configs composed
    assert found.counts() == {"done": 190, "failed": 0, "unavailable": 0, "missing": 190}
