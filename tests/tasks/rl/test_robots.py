"""The robots' facts against the manifest's, the simulator's and D4RL's names."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.errors import UnknownDataset
from tasks.rl.robots import DATASETS, ROBOTS, TIERS, normalized_score, robot_of, tier_of
from tasks.suite.manifest import load_manifest


def test_every_dataset_of_the_manifest_has_a_robot_with_the_same_facts():
    entries = [(name, dataset) for name, dataset in load_manifest().datasets.items() if dataset.family == "rl"]
    official = [(name, dataset.variants["official"]) for name, dataset in entries if "official" in dataset.variants]
    assert len(official) == 12
    for name, entry in official:
        robot = robot_of(name)
        assert tier_of(name) in TIERS
        assert entry.shape == {"observations": robot.observations, "actions": robot.actions}
        assert entry.statistics["reference_min"] == robot.reference_min
        assert entry.statistics["reference_max"] == robot.reference_max


def test_names():
    assert len(DATASETS) == 18
    assert robot_of("hopper-medium") is robot_of("known/hopper-masked") is ROBOTS["hopper"]
    assert tier_of("walker2d-medium-replay") == "medium-replay"
    assert tier_of("known/walker2d-masked") == "medium"
    with pytest.raises(UnknownDataset, match="did you mean hopper-medium"):
        robot_of("hopper-mediun")


def test_normalised_score():
    hopper = ROBOTS["hopper"]
    ends = normalized_score(hopper, np.array([hopper.reference_min, hopper.reference_max]))
    np.testing.assert_allclose(ends, [0.0, 100.0], atol=1e-12)
    assert float(normalized_score(hopper, 1422.0)) == pytest.approx(44.3153, abs=1e-4)


@pytest.mark.parametrize("robot", ROBOTS.values(), ids=ROBOTS)
def test_positions_come_first(robot):
    velocities = {"hopper": 6, "halfcheetah": 9, "walker2d": 9, "ant": 14}[robot.name]
    assert robot.positions + velocities == robot.simulated <= robot.observations
