"""Where a config file is not of the shape that `tasks.composing` merges by itself, Hydra composes it whole.

That the merged ones are Hydra's own, for every dataset under every profile, is tested in `tests/test_conf.py`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hydra import initialize_config_dir

from tasks.composing import Composer, composed

CONF = Path(__file__).resolve().parents[2] / "conf"
COMMON = ["profile=quick", "protocol=honest"]


@pytest.fixture
def conf(tmp_path):
    shutil.copytree(CONF, tmp_path / "conf")
    with initialize_config_dir(version_base="1.3", config_dir=str(tmp_path / "conf")):
        yield tmp_path / "conf"


def test_overrides_go_over_what_the_dataset_says(conf):
    asked = ["task.data.rows=[10,10,10]"]
    cfg = Composer(conf, COMMON, asked).of("ETTh1")
    assert cfg["task"]["data"]["rows"] == [10, 10, 10]
    assert cfg == composed(["dataset=ETTh1", *COMMON, *asked])


def test_a_dataset_made_from_another(conf):
    text = "# @package _global_\ndefaults: [/dataset/ETTh1@_global_, _self_]\ndataset: {name: mine}\n"
    (conf / "dataset" / "extra" / "mine.yaml").write_text(text)
    cfg = Composer(conf, COMMON).of("extra/mine")
    assert cfg["dataset"]["name"] == "mine"
    assert cfg["task"]["data"]["rows"] == [8640, 2880, 2880]


@pytest.mark.parametrize("file", ["task/forecasting.yaml", "profile/forecasting/quick.yaml"])
def test_a_family_or_profile_that_brings_more_along(conf, file):
    (conf / "task" / "more.yaml").write_text("more: 1\n")
    text = (conf / file).read_text()
    if file.startswith("task"):
        text = text.replace("  - _self_\n", "  - /task/more@_here_\n  - _self_\n")
    else:
        text = "defaults: [/task/more@_here_, _self_]\n" + text
    (conf / file).write_text(text)
    cfg = Composer(conf, COMMON).of("ETTh1")
    assert cfg["task"]["more"] == 1
    assert cfg == composed(["dataset=ETTh1", *COMMON])


def test_no_dataset_changes_what_the_next_one_gets(conf):
    composer = Composer(conf, COMMON)
    alone = composer.of("Weather")
    composer.of("ETTh1")
    composer.of("known/seasonal")
    assert composer.of("Weather") == alone
