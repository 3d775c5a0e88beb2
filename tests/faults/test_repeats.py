"""The same job again, and one interrupted within a round or at its end, to the last bit: all families, both models."""

from __future__ import annotations

import pytest

FEW_ROLLOUTS = ("task.rollout.val_episodes=1", "task.rollout.test_episodes=1", "task.rollout.max_steps=10")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("model", ["aaren", "transformer"])
@pytest.mark.parametrize("family", ["classification", "events", "forecasting", "rl"])
def test_reruns_and_resumes_are_bitwise(family, model, tmp_path, cache, monkeypatch):
    from faults_repeats import compare
    from faults_trials import SETS, smoke_job

    monkeypatch.setenv("AAREN_CACHE", str(cache))
    less = ["task.budget.max_steps=9", *(FEW_ROLLOUTS if family == "rl" else ())]  # three rounds
    found = compare(smoke_job(*SETS[family], *less, f"model={model}"), tmp_path)
    assert found == {"rerun": True, "mid_round": True, "boundary": True}
