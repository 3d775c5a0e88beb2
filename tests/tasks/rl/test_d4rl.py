"""The reader of D4RL's files: what is in them, what it drops, and what it refuses."""

from __future__ import annotations

import logging

import h5py
import numpy as np
import pytest

from tasks.errors import DatasetError
from tasks.rl.d4rl import ROWS, read_episodes, read_metadata
from tasks.rl.robots import ROBOTS

HOPPER = ROBOTS["hopper"]


def test_a_file_with_all_21_keys(d4rl_arrays, d4rl_file):
    content = d4rl_arrays("hopper", [3, 1, 5], tail=4)
    path = d4rl_file(content)
    with h5py.File(path) as file:
        keys: list[str] = []
        file.visititems(lambda name, item: keys.append(name) if isinstance(item, h5py.Dataset) else None)
    assert len(keys) == 21
    episodes = read_episodes(path, HOPPER)
    assert episodes.lengths.tolist() == [3, 1, 5]
    for name in ("observations", "actions", "rewards"):
        np.testing.assert_array_equal(getattr(episodes, name), content[name][:9])
    assert episodes.behaviour_mean is None
    assert read_metadata(path)["algorithm"] == "SAC"
    assert read_metadata(path)["iteration"] == 3


def test_float64_is_cast(d4rl_arrays, d4rl_file):
    content = d4rl_arrays("walker2d", [40, 25], dtype=np.float64)
    episodes = read_episodes(d4rl_file(content, metadata=False), ROBOTS["walker2d"])
    for name in ("observations", "actions", "rewards"):
        found = getattr(episodes, name)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, content[name].astype(np.float32))


def test_terminals_and_timeouts_both_end_an_episode_even_at_once(d4rl_arrays, d4rl_file):
    content = d4rl_arrays("halfcheetah", [4, 4], terminal=False)
    assert not content["terminals"].any()
    content["terminals"][1] = True  # inside the first episode
    content["timeouts"][1] = True
    content["observations"][2, 0] = 0.0
    assert read_episodes(d4rl_file(content), ROBOTS["halfcheetah"]).lengths.tolist() == [2, 2, 4]


def test_a_long_file_is_read_in_pieces(d4rl_arrays, d4rl_file):
    content = d4rl_arrays("hopper", [1000] * 140, tail=7)
    assert len(content["rewards"]) > 2 * ROWS
    episodes = read_episodes(d4rl_file(content), HOPPER)
    np.testing.assert_array_equal(episodes.actions, content["actions"][:140_000])
    content["observations"][ROWS + 5, 3] = np.nan
    with pytest.raises(DatasetError, match=rf"observations\[{ROWS + 5}, 3\] is nan"):
        read_episodes(d4rl_file(content), HOPPER)
    content["observations"][ROWS + 5, 3], content["observations"][-1, 3] = 0, np.nan  # in the tail: never read
    assert len(read_episodes(d4rl_file(content), HOPPER)) == 140


def test_ants_contact_forces_must_be_zero_and_are_not_kept(d4rl_arrays, d4rl_file):
    content = d4rl_arrays("ant", [3, 6])
    episodes = read_episodes(d4rl_file(content), ROBOTS["ant"])
    np.testing.assert_array_equal(episodes.observations, content["observations"][:, :27])
    content["observations"][7, 30] = 1e-3
    with pytest.raises(DatasetError, match=r"observations\[7, 30\] is 0\.001.*from dimension 27 on, not 0"):
        read_episodes(d4rl_file(content), ROBOTS["ant"])


def test_the_behaviour_policys_means_are_read_where_they_are(d4rl_arrays, d4rl_file):
    content = d4rl_arrays("hopper", [3, 2], tail=1)
    content["infos/behaviour_mean"] = content["actions"] / 2
    means = read_episodes(d4rl_file(content), HOPPER).behaviour_mean
    np.testing.assert_array_equal(means, content["actions"][:5] / 2)


def _without(key):
    return lambda content: content.pop(key)


def _with(key, change):
    def apply(content):
        content[key] = change(content[key])

    return apply


def _at(key, place, value):
    def apply(content):
        content[key][place] = value

    return apply


SPOILT = {
    "no timeouts, as in version 0": (_without("timeouts"), r"no array 'timeouts' .*version 0"),
    "no rewards": (_without("rewards"), "no array 'rewards'"),
    "no observations": (_without("observations"), "no array 'observations'"),
    "another robot": (_with("observations", lambda o: np.tile(o, 2)[:, :17]), r"shape \(9, 17\), not \(9, 11\)"),
    "one action too many": (_with("actions", lambda a: np.tile(a, 2)[:, :4]), r"'actions' has shape \(9, 4\)"),
    "flat observations": (_with("observations", lambda o: o[:, 0]), r"shape \(9,\)"),
    "a scalar": (_with("observations", lambda o: o[0, 0]), "has 0 rows"),
    "rewards in a column": (_with("rewards", lambda r: r[:, None]), r"'rewards' has shape \(9, 1\)"),
    "fewer rewards": (_with("rewards", lambda r: r[:-1]), r"'rewards' has shape \(8,\)"),
    "no rows": (lambda c: c.update({key: values[:0] for key, values in c.items()}), "has 0 rows"),
    "text": (_with("rewards", lambda r: np.full(r.shape, b"x")), "'rewards' holds .*not floating point"),
    "whole numbers": (_with("actions", lambda a: a.astype(int)), "'actions' holds int64"),
    "flags as floats": (_with("terminals", lambda t: t.astype(float)), "'terminals' holds float64"),
    "a flag of 2": (_with("terminals", lambda t: t * 2), "other values than 0 and 1"),
    "a NaN reward": (_at("rewards", 4, np.nan), r"rewards\[4\] is nan: not a finite number"),
    "an infinite observation": (_at("observations", (5, 2), np.inf), r"observations\[5, 2\] is inf"),
    "an action of 1.1": (_at("actions", (1, 2), 1.1), r"actions\[1, 2\] is 1\.1.*not within \[-1, 1\]"),
    "more than float32 holds": (_with("rewards", lambda r: r.astype(float) * 1e300), r"rewards\[0\] is -?inf"),
    "no episode ends": (
        lambda c: [c[key].fill(False) for key in ("terminals", "timeouts")],
        "no complete episode in 9",
    ),
    "another height": (_with("observations", lambda o: o * 0), r"height 0\.00, and hopper's at 1\.25"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_spoilt_files(name, d4rl_arrays, d4rl_file):
    spoil, message = SPOILT[name]
    content = d4rl_arrays("hopper", [4, 5])
    read_episodes(d4rl_file(content), HOPPER)
    spoil(content)
    path = d4rl_file(content)
    with pytest.raises(DatasetError, match=message) as caught:
        read_episodes(path, HOPPER)
    assert caught.value.path == str(path)
    assert "data.py get" in caught.value.fix


def test_an_action_may_miss_its_bounds_by_rounding(d4rl_arrays, d4rl_file):
    content = d4rl_arrays("hopper", [4, 5])
    content["actions"][0] = np.nextafter(np.float32(1), np.float32(2))
    assert len(read_episodes(d4rl_file(content), HOPPER)) == 2


@pytest.mark.parametrize(("theirs", "ours"), [("walker2d", "halfcheetah"), ("halfcheetah", "walker2d")])
def test_swapped_robots_of_the_same_dimensions(theirs, ours, d4rl_arrays, d4rl_file):
    path = d4rl_file(d4rl_arrays(theirs, [5, 5]))
    assert len(read_episodes(path, ROBOTS[theirs])) == 2
    with pytest.raises(DatasetError, match=f"and {ours}'s at .* another robot's file"):
        read_episodes(path, ROBOTS[ours])


def test_the_robot_whose_dimensions_they_are_is_named(d4rl_arrays, d4rl_file):
    with pytest.raises(DatasetError, match="dimensions of halfcheetah or walker2d"):
        read_episodes(d4rl_file(d4rl_arrays("walker2d", [5])), HOPPER)


def test_an_episode_of_thousands_of_steps_lacks_its_timeouts(d4rl_arrays, d4rl_file):
    content = d4rl_arrays("halfcheetah", [2001, 10])
    with pytest.raises(DatasetError, match=r"an episode has 2001 steps.*timeouts are missing"):
        read_episodes(d4rl_file(content), ROBOTS["halfcheetah"])


@pytest.mark.parametrize(
    "content", [b"", b"<!DOCTYPE html><html>busy</html>", b"\x1f\x8b\x08", b"PK\x03\x04", b"\x00" * 9]
)
def test_what_is_no_hdf5_file(content, tmp_path):
    path = tmp_path / "page.hdf5"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"holds|is not a whole HDF5 file"):
        read_episodes(path, HOPPER)
    with pytest.raises(DatasetError, match="is not a whole HDF5 file"):
        read_episodes(tmp_path / "absent.hdf5", HOPPER)


def test_no_other_file_is_followed(d4rl_arrays, d4rl_file, tmp_path):
    content = d4rl_arrays("hopper", [4, 5])
    other = d4rl_file(content, name="other.hdf5")
    path = d4rl_file(content)
    layout = h5py.VirtualLayout(shape=(9,), dtype="f4")
    layout[:] = h5py.VirtualSource(str(other), "rewards", shape=(9,))
    raw = tmp_path / "raw"
    raw.write_bytes(bytes(36))
    for kind in ("link", "virtual", "raw"):
        with h5py.File(path, "a") as file:
            del file["rewards"]
            if kind == "link":
                file["rewards"] = h5py.ExternalLink(str(other), "/rewards")
            elif kind == "virtual":
                file.create_virtual_dataset("rewards", layout)
            else:
                file.create_dataset("rewards", (9,), "f4", external=[(str(raw), 0, 36)])
        with pytest.raises(DatasetError, match="'rewards' lies in another file"):
            read_episodes(path, HOPPER)


def test_counts_must_agree_and_returns_are_remarked_on(d4rl_arrays, d4rl_file, caplog):
    content = d4rl_arrays("hopper", [4, 5, 6], tail=2)
    path = d4rl_file(content)
    returns = read_episodes(path, HOPPER).returns
    known = {"complete_steps": 15, "trajectories": 4, "return_mean": returns.mean(), "return_max": returns.max() + 0.9}
    with caplog.at_level(logging.WARNING):
        read_episodes(path, HOPPER, expect=known)
        assert not caplog.records
        read_episodes(path, HOPPER, expect=known | {"return_mean": 50})
    assert "the mean return of its episodes" in caplog.text
    with pytest.raises(DatasetError, match="has 15 complete steps, and the official file 17"):
        read_episodes(path, HOPPER, expect=known | {"complete_steps": 17})
    with pytest.raises(DatasetError, match="has 4 trajectories, and the official file 3"):
        read_episodes(path, HOPPER, expect=known | {"trajectories": 3})


def test_cut_files_are_refused_wherever_they_end(d4rl_arrays, d4rl_file):
    path = d4rl_file(d4rl_arrays("hopper", [30, 40, 20]), metadata=False)
    whole = path.read_bytes()
    for size in np.linspace(0, len(whole) - 1, 100).astype(int):
        path.write_bytes(whole[:size])
        with pytest.raises(DatasetError):
            read_episodes(path, HOPPER)
