"""What the families' readers make of the real files equals the manifest's facts: sizes, classes, mean and std."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.classification.data import parse as parse_panel
from tasks.data import DatasetUnavailable, resolve
from tasks.forecasting.data import parse as parse_series
from tasks.suite.manifest import load_manifest


def ready(family: str) -> list[str]:
    """The sets of a family whose real files are here: two without a data root, a dozen with one."""
    names = []
    for name, entry in load_manifest().datasets.items():
        if entry.family == family and "official" in entry.variants:
            try:
                resolve(name, "official")
            except DatasetUnavailable:
                continue
            names.append(name)
    return names


def close(found: np.ndarray, wanted: list[float], scale: np.ndarray) -> bool:
    return bool(np.max(np.abs(found - wanted) / scale) < 1e-6)


@pytest.mark.parametrize("name", ready("forecasting"))
def test_a_series_has_the_manifests_facts(name: str):
    found = resolve(name, "official")
    arrays, facts = parse_series(found), found.entry.statistics
    values = arrays["values"].astype(np.float64)
    assert values.shape == (found.entry.shape["rows"], found.entry.shape["channels"])
    scale = np.abs(facts["mean"]) + np.array(facts["std"])
    assert close(values.mean(0), facts["mean"], scale)
    assert close(values.std(0), facts["std"], scale)
    dates = arrays["dates"].astype("datetime64[ms]")
    assert [str(date)[:16].replace("T", " ") for date in (dates[0], dates[-1])] == [facts["first"], facts["last"]]
    steps = np.diff(dates).astype("timedelta64[m]").astype(int)
    assert np.median(steps) == facts["step_minutes"]


@pytest.mark.parametrize("name", ready("classification"))
def test_a_panel_has_the_manifests_facts(name: str):
    found = resolve(name, "official")
    arrays, entry = parse_panel(found), found.entry
    assert set(arrays["classes"].tolist()) == set(entry.labels)
    for part in ("train", "test"):
        facts, lengths = entry.statistics[part], arrays[f"{part}_lengths"]
        values = arrays[f"{part}_values"].astype(np.float64)
        assert len(lengths) == entry.shape[part]
        assert values.shape == (facts["points"], entry.shape["channels"])
        assert (lengths.min(), lengths.max(), lengths.sum()) == (
            facts["length_min"],
            facts["length_max"],
            facts["points"],
        )
        names = arrays["classes"][arrays[f"{part}_labels"]].tolist()
        assert [names.count(label) for label in entry.labels] == facts["class_counts"]
        scale = np.abs(facts["mean"]) + np.array(facts["std"])
        assert close(values.mean(0), facts["mean"], scale)
        assert close(values.std(0), facts["std"], scale)
