"""The optional d4rl package: its scores are ours where it imports, and nothing breaks where it does not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from tasks.rl.d4rl import read_episodes
from tasks.rl.d4rl_package import compare, import_d4rl
from tasks.rl.robots import ROBOTS

FAKE = """
import sys
try:
    import mujoco_py  # the real one raises more than ImportError where MuJoCo 2.1 is missing
    raise RuntimeError("mujoco_py was there")
except ImportError:
    print("Warning: Mujoco-based envs failed to import", file=sys.stderr)
import gym
from gym.envs.registration import register
KNOWN = {"hopper": (-20.272305, 3234.3), "halfcheetah": (-280.178953, 12135.0), "walker2d": (1.629008, 4592.3),
         "ant": (-325.6, 3879.7)}
def get_normalized_score(name, returns):
    low, high = KNOWN[name.partition("-")[0]]
    return (returns - low) / (high - low)
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a package of this text as d4rl; another gym or d4rl is out of the way while the test runs."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("d4rl", "gym", "mujoco_py")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(text: str) -> Path:
        (tmp_path / "d4rl").mkdir()
        (tmp_path / "d4rl/__init__.py").write_text(text)
        return tmp_path

    yield install
    for name in [name for name in sys.modules if name.partition(".")[0] == "d4rl"]:
        del sys.modules[name]


def test_it_imports_without_its_dependencies_quietly_and_leaves_no_stand_in(installed, capfd):
    installed(FAKE)
    before = set(sys.modules)
    assert compare() == "normalised scores of the installed d4rl agree with ours"
    assert capfd.readouterr() == ("", "")
    added = {name.partition(".")[0] for name in set(sys.modules) - before}
    assert not {"gym", "mujoco_py"} & added
    assert import_d4rl() is sys.modules["d4rl"]


def test_other_scores_are_remarked_on(installed):
    installed(FAKE.replace("3234.3", "3234.4"))
    assert str(compare()).startswith("normalised scores of the installed d4rl DIFFER from ours by up to 0.01")


@pytest.mark.parametrize("text", ["raise Exception('You appear to be missing MuJoCo')", "import no_such_package", "("])
def test_a_package_that_does_not_import_is_done_without(installed, text):
    installed(text)
    assert import_d4rl() is None
    assert compare() is None
    assert "d4rl" not in sys.modules


def test_without_it_nothing_is_said(installed, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert compare() is None


@pytest.mark.skipif(importlib.util.find_spec("d4rl") is None, reason="the optional package d4rl is not installed")
def test_the_real_package_scores_and_cuts_as_we_do(d4rl_arrays, d4rl_file, monkeypatch, tmp_path):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    package = import_d4rl()
    assert package is not None
    assert compare() == "normalised scores of the installed d4rl agree with ours"
    content = d4rl_arrays("walker2d", [30, 2, 40], tail=7)
    theirs = list(package.sequence_dataset(None, content))
    ours = read_episodes(d4rl_file(content), ROBOTS["walker2d"])
    assert ours.lengths.tolist() == [len(episode["rewards"]) for episode in theirs]
    np.testing.assert_array_equal(ours.rewards, np.concatenate([episode["rewards"] for episode in theirs]))
