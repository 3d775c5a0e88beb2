"""The policies that surrogates are made from are in the package, and the manifest names each by its hash."""

from __future__ import annotations

import pytest

from tasks.data import resolve, verified
from tasks.rl.robots import robot_of, tier_of
from tasks.rl.surrogate import WEIGHTS
from tasks.suite.manifest import load_manifest

SETS = [name for name, entry in load_manifest().datasets.items() if entry.family == "rl"]


def test_every_set_has_a_surrogate():
    assert len(SETS) == 14
    assert all("surrogate" in load_manifest().datasets[name].variants for name in SETS)


@pytest.mark.parametrize("name", SETS)
def test_a_surrogate_is_ready_everywhere_and_identified_by_its_policies(name):
    entry = load_manifest().datasets[name].variants["surrogate"]
    tiers = ("medium", "expert") if tier_of(name) == "medium-expert" else (tier_of(name),)
    assert tuple(file.role for file in entry.files) == tiers
    for file in entry.files:
        assert file.check == "strict"
        assert file.path == f"rl/weights/{robot_of(name).name}-{file.role}.npz"
    found = verified(resolve(name, "surrogate"))
    assert dict(found.sha256) == {file.role: file.sha256 for file in entry.files}
    assert all(path.parent == WEIGHTS for path in found.files.values())
    assert found.label == (name if name.startswith("known/") else f"{name}-surrogate")
