"""The run id: equal where the numbers are equal, different where they are not."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.suite.identity import IdentityError, canonical_json, config_hash, run_id, semantic_config

SOURCES = {"series": "ab" * 32}


def _with(cfg, **changes):
    changed = copy.deepcopy(cfg)
    for dotted, value in changes.items():
        *path, last = dotted.split("__")
        target = changed
        for key in path:
            target = target.setdefault(key, {})
        target[last] = value
    return changed


def test_form(make_config):
    assert re.fullmatch(r"forecasting-ETTh1-h192-aaren-s3-[0-9a-f]{8}", run_id(make_config(seed=3), "ETTh1", SOURCES))
    events = make_config(family="events", dataset="MIMIC", fold=2)
    assert re.fullmatch(r"events-MIMIC-aaren-s0-f2-[0-9a-f]{8}", run_id(events, "MIMIC", SOURCES))


@pytest.mark.parametrize("label", ["known/seasonal", "a b:c*?", "../../etc/passwd", "x" * 300, "数据"])
def test_safe_as_a_file_name(make_config, tmp_path, label):
    name = run_id(make_config(), label, {})
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,200}", name)
    assert ".." not in name.split("-")
    (tmp_path / name).mkdir()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "changes",
    [
        {"device": "cuda"},
        {"threads": 8},
        {"logger": "wandb"},
        {"launcher": {"n_jobs": 4}},
        {"hydra": {"run": {"dir": "/elsewhere"}}},
        {"paths": {"data": "/elsewhere"}},
        {"runs_dir": "/elsewhere"},
        {"force": True},
        {"progress": "bar"},
        {"dataset__variant": "official"},
        {"dataset__path": "/home/me/ETTh1.csv"},
        {"task__trivial_models": ["a_new_one"]},
        {"task__optim__lr": np.float64(1e-3)},
    ],
)
def test_where_and_how_a_job_runs_does_not_matter(make_config, changes):
    cfg = make_config()
    assert run_id(_with(cfg, **changes), "ETTh1", SOURCES) == run_id(cfg, "ETTh1", SOURCES)


@pytest.mark.parametrize(
    "changes",
    [
        {"task__optim__lr": 2e-3},
        {"task__protocol_version": 2},
        {"task__data": {"clean_weather": True}},
        {"protocol": "paper_compat"},
        {"profile": "paper"},
        {"model__name": "transformer"},
        {"model__attention": "mean"},
        {"horizon": 96},
        {"seed": 1},
        {"fold": 1},
        {"task__optim__clip": None},
    ],
)
def test_what_changes_the_numbers_does(make_config, changes):
    cfg = make_config()
    assert run_id(_with(cfg, **changes), "ETTh1", SOURCES) != run_id(cfg, "ETTh1", SOURCES)


def test_data_changes_it(make_config):
    cfg = make_config()
    names = {
        run_id(cfg, "ETTh1", SOURCES),
        run_id(cfg, "ETTh1", {"series": "cd" * 32}),
        run_id(cfg, "ETTh1", {"train": "ab" * 32}),
        run_id(cfg, "ETTh1-partial", SOURCES),
        run_id(cfg, "ETTh1", {}),
    }
    assert len(names) == 5


def test_seeds_share_the_hash(make_config):
    hashes = {config_hash(make_config(seed=seed), "ETTh1", SOURCES) for seed in range(5)}
    assert len(hashes) == 1


def test_plugin_counts_by_content_not_by_place(make_config, tmp_path):
    names = []
    for folder, text in (("a", "x = 1"), ("b", "x = 1"), ("c", "x = 2")):
        path = tmp_path / folder / "mine.py"
        path.parent.mkdir()
        path.write_text(text)
        names.append(run_id(_with(make_config(), model__plugin=str(path)), "ETTh1", SOURCES))
    assert names[0] == names[1] != names[2]
    with pytest.raises(IdentityError, match=r"model\.plugin=.*absent\.py: cannot be read"):
        semantic_config(_with(make_config(), model__plugin=str(tmp_path / "absent.py")))


def test_semantic_config_is_its_own_semantic_config(make_config, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text("x = 1")
    once = semantic_config(_with(make_config(), model__plugin=str(plugin)))
    assert semantic_config(once) == once
    assert str(tmp_path) not in json.dumps(once)


def test_same_in_another_process_and_key_order(make_config):
    cfg = make_config()
    turned = dict(reversed(list(cfg.items()))) | {"task": dict(reversed(list(cfg["task"].items())))}
    code = "import sys, json; from tasks.suite.identity import run_id; print(run_id(*json.load(sys.stdin)))"
    found = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps([turned, "ETTh1", SOURCES]),
        env={"PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == run_id(cfg, "ETTh1", SOURCES)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=12,
    )
)
def test_canonical_json_is_a_fixed_point(value):
    text = canonical_json(value)
    assert canonical_json(json.loads(text)) == text
    assert json.loads(text) == value


def test_canonical_numbers():
    assert canonical_json({"b": 1.0, "a": -0.0}) == canonical_json({"a": 0, "b": 1}) == '{"a":0,"b":1}'
    assert canonical_json(True) != canonical_json(1)
    assert canonical_json(0.1) == "0.1"
    assert canonical_json((1, 2)) == canonical_json([1, 2])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object(), b"x"])
def test_values_without_a_canonical_form_are_refused(value):
    with pytest.raises(IdentityError, match=r"config\.lr"):
        canonical_json({"lr": value})


@pytest.mark.parametrize(("key", "name"), [("seed", "seed"), ("protocol", "protocol"), ("model", r"model\.name")])
def test_a_missing_key_is_named(make_config, key, name):
    cfg = make_config()
    del cfg[key]
    with pytest.raises(IdentityError, match=f"no {name}"):
        run_id(cfg, "ETTh1", SOURCES)
