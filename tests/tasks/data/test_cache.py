"""The cache of parsed arrays: parsed once, never wrong, heals itself once, and never runs what it holds."""

from __future__ import annotations

import os
import pickle
import random
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tasks import cache
from tasks.cache import cache_path
from tasks.data import DatasetError, Resolved, load_cached, verified
from tasks.npz import NpzError
from tasks.suite.manifest import VariantEntry

ENTRY = VariantEntry("official", "none stated", {})


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Resolved:
    monkeypatch.setenv("AAREN_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "toy.csv"
    path.write_bytes(b"1,2,3\n")
    return Resolved("extra/toy", "forecasting", "official", {"series": path}, {}, "data root", ENTRY)


class Parser:
    """Counts its calls; gives arrays of every kind that families keep."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, resolved: Resolved) -> dict[str, np.ndarray]:
        self.calls += 1
        values = np.array(resolved.files["series"].read_text().strip().split(","), dtype=np.float32)
        return {"values": values, "labels": np.array(["a", "é"]), "valid": np.array([True]), "none": np.empty((0, 3))}


def same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and np.array_equal(left[name], right[name]) for name in left
    )


def test_a_source_is_parsed_once_for_a_version(source):
    parser = Parser()
    first = load_cached(source, parser, version=1)
    assert same(first, parser(source))
    assert same(load_cached(source, parser, version=1), first)
    assert parser.calls == 2
    load_cached(source, parser, version=2)
    assert parser.calls == 3


def test_another_source_has_another_cache(source):
    parser = Parser()
    load_cached(source, parser, version=1)
    source.files["series"].write_bytes(b"4,5,6\n")
    assert load_cached(source, parser, version=1)["values"].tolist() == [4, 5, 6]
    assert parser.calls == 2


def test_generated_sets_are_cached_by_version(source):
    generated = Resolved("known/toy", "forecasting", "synthetic", {}, {}, "generated", ENTRY)
    for version in (1, 1, 2):
        assert load_cached(generated, lambda _, v=version: {"x": np.array([v])}, version)["x"] == [version]


def test_a_damaged_cache_heals_and_never_lies(source, monkeypatch):
    parser = Parser()
    wanted = load_cached(source, parser, version=1)
    path = cache_path(verified(source), 1)
    whole = path.read_bytes()
    chance = random.Random(0)
    damaged = [whole[:at] for at in chance.sample(range(len(whole)), 100)] + [b"", b"<html>", pickle.dumps(1)]
    for bit in chance.sample(range(8 * len(whole)), 300):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(flipped))
    monkeypatch.setattr(os, "fsync", lambda _: None)  # 400 of them would cost seconds and prove nothing here
    for content in damaged:
        path.write_bytes(content)
        assert same(load_cached(source, parser, version=1), wanted)
    assert parser.calls > 300


def test_a_cache_that_cannot_be_healed_is_an_error_after_one_try(source, monkeypatch):
    parser = Parser()
    load_cached(source, parser, version=1)

    def broken(path: Path) -> dict[str, np.ndarray]:
        raise NpzError("bad disk")

    monkeypatch.setattr(cache, "_read", broken)
    with pytest.raises(DatasetError, match=r"damaged again.*AAREN_CACHE"):
        load_cached(source, parser, version=1)
    assert parser.calls == 2


def test_a_pickle_in_the_cache_is_never_run(source, tmp_path):
    mark = tmp_path / "was here"

    class Payload:
        def __reduce__(self) -> tuple:
            return Path.touch, (mark,)

    parser = Parser()
    wanted = load_cached(source, parser, version=1)
    path = cache_path(verified(source), 1)
    np.savez(path, __names__=np.array(["values"]), values=np.array([Payload()], dtype=object))
    assert same(load_cached(source, parser, version=1), wanted)
    path.write_bytes(pickle.dumps(Payload()))
    assert same(load_cached(source, parser, version=1), wanted)
    assert not mark.exists()


@pytest.mark.parametrize("bad", [np.array([None]), [1, 2], None])
def test_a_parser_must_give_plain_arrays(source, bad):
    with pytest.raises(TypeError, match="'bad' is not a plain array"):
        load_cached(source, lambda _: {"bad": bad}, version=1)


def test_a_readers_error_names_the_dataset_to_fetch(source):
    def refuse(resolved: Resolved) -> dict[str, np.ndarray]:
        raise DatasetError(resolved.files["series"], "line 3: no number", "run scripts/data.py get NAME")

    with pytest.raises(DatasetError, match=r"line 3: no number\. Fix: run scripts/data\.py get extra/toy"):
        load_cached(source, refuse, version=1)


def test_a_cache_that_cannot_be_written_costs_a_parse(source, monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("AAREN_CACHE", str(tmp_path / "file/below"))
    parser = Parser()
    assert same(load_cached(source, parser, version=1), load_cached(source, parser, version=1))
    assert parser.calls == 2
    assert "going on without the cache" in caplog.text


def test_many_loads_at_once_agree_and_leave_one_file(source):
    parser, results, barrier = Parser(), [], threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        results.extend(load_cached(source, parser, version=1) for _ in range(5))

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 40
    assert all(same(result, results[0]) for result in results)
    assert len(list(cache_path(verified(source), 1).parent.iterdir())) == 1


def test_the_largest_set_loads_in_under_two_seconds(source):
    arrays = {"values": np.ones((17544, 862), np.float32)}  # Traffic
    load_cached(source, lambda _: arrays, version=1)
    started = time.process_time()
    load_cached(source, lambda _: {}, version=1)
    assert time.process_time() - started < 2.0
