"""D4RL's HDF5 schema, version 2: flat arrays, cut into episodes at terminals or timeouts.

An own reader: `d4rl.sequence_dataset` loops over a million rows in Python and stumbles over the `metadata` keys of
the very files it is for. What is read is checked, since HDF5 gives altered bytes back without a word; that the file
is the one it should be is settled before, by its hash (`tasks.verify`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tasks.data import Resolved
from tasks.errors import DatasetError
from tasks.files import FETCH_AGAIN, foreign_kind
from tasks.rl.episodes import Episodes
from tasks.rl.robots import ROBOTS, Robot, robot_of

log = logging.getLogger(__name__)

PARSE_VERSION = 1  # of the arrays that `parse` makes; a new number makes the cache parse again
FLAGS = frozenset({"terminals", "timeouts"})
REQUIRED = ("observations", "actions", "rewards", *sorted(FLAGS))
MEANS = "infos/behaviour_mean"  # only in surrogates
ROWS = 1 << 16  # read and checked at a time
MOST_ROWS = 10_000_000  # the largest set has two million; a damaged header can say anything
# A header may promise rows that were never written, and a packed chunk unpacks whole: numbers shrink by a tenth, flags
# (one in a thousand is set), and Ant's 84 zeros, by far more.
MAX_GROWTH = {False: 50, True: 2000}
MOST_CHUNK = 1 << 28
ROUNDING = 1e-5  # by so much an action may leave [-1, 1]
# The height of the torso just after a reset, and what the reset adds to it at most (gymnasium v4, the same in v2).
RESET_HEIGHT = {"hopper": (1.25, 0.005), "walker2d": (1.25, 0.005), "halfcheetah": (0.0, 0.1), "ant": (0.75, 0.1)}
# What h5py raises for bytes that make no sense.
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError)


def parse(resolved: Resolved) -> dict[str, np.ndarray]:
    """The episodes in a dataset's verified file as arrays for the cache. Raises DatasetError."""
    path = resolved.files["trajectories"]
    episodes = read_episodes(path, robot_of(resolved.dataset), expect=resolved.entry.statistics)
    names = ("observations", "actions", "rewards", "starts")
    return {name: getattr(episodes, name) for name in names}


def as_episodes(arrays: Mapping[str, np.ndarray]) -> Episodes:
    """The episodes that `parse` took apart."""
    return Episodes(**arrays)


def read_episodes(path: Path, robot: Robot, *, expect: Mapping[str, Any] | None = None) -> Episodes:
    """The complete episodes of a file; an unfinished tail is dropped, for its returns-to-go are not known.

    Args:
        path: HDF5 with observations [N, do], actions [N, da], rewards, terminals and timeouts [N]; other keys are
            ignored but for `infos/behaviour_mean` [N, da]. float64 is cast to float32.
        robot: whose file it should be.
        expect: the manifest's statistics; counts must agree, and a mean return that differs is logged.

    Raises:
        DatasetError: no HDF5 file, a missing key, wrong dimensions, another robot, a number that is not finite, an
            action outside [-1, 1], no complete episode, or counts that differ from `expect`.
    """
    with _opened(path) as file:
        found = _datasets(file, path, robot)
        ends = np.flatnonzero(_flags(found["terminals"], path) | _flags(found["timeouts"], path)) + 1
        rows = len(found["rewards"])
        if not len(ends):
            raise DatasetError(path, f"has no complete episode in {rows} steps", FETCH_AGAIN)
        starts = np.concatenate([[0], ends]).astype(np.int64)
        columns = {key: _columns(found[key], path, int(starts[-1]), robot) for key in found.keys() - FLAGS}
    episodes = Episodes(columns["observations"], columns["actions"], columns["rewards"], starts, columns.get(MEANS))
    _check_robot(episodes, path, robot)
    if expect:
        _check_counts(episodes, expect, path, tail=bool(rows > starts[-1]))
    return episodes


def read_metadata(path: Path) -> dict[str, Any]:
    """The numbers and texts under `metadata`, by name; arrays (D4RL keeps whole policies there) are left out."""
    found: dict[str, Any] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape == ():
            value = item[()]
            found[name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value.item()

    with _opened(path) as file:
        group = file.get("metadata")
        if isinstance(group, h5py.Group):
            group.visititems(keep)
            for name, value in group.attrs.items():
                found[name] = value.item() if isinstance(value, np.generic) else str(value)
    return found


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        kind = foreign_kind(path)
        if kind:
            raise DatasetError(path, f"holds {kind}", FETCH_AGAIN)
        with h5py.File(path, "r") as file:
            yield file
    except _DAMAGE as error:
        raise DatasetError(path, f"is not a whole HDF5 file ({error})", FETCH_AGAIN) from error


def _datasets(file: h5py.File, path: Path, robot: Robot) -> dict[str, h5py.Dataset]:
    """Every array that is read, after a look at its header: one row a step, the robot's dimensions, numbers."""
    found = {}
    for key in (*REQUIRED, *((MEANS,) if MEANS in file else ())):
        array = file.get(key)
        if not isinstance(array, h5py.Dataset):
            old = " (files of version 0 lack it)" if key == "timeouts" else ""
            raise DatasetError(path, f"has no array {key!r}{old}; D4RL's version 2 is needed", FETCH_AGAIN)
        if not isinstance(file.get(key, getlink=True), h5py.HardLink) or array.is_virtual or array.external:
            raise DatasetError(path, f"{key!r} lies in another file, which is not followed", FETCH_AGAIN)
        found[key] = array
    rows = found["observations"].shape[0] if found["observations"].ndim else 0
    if not 0 < rows <= MOST_ROWS:
        raise DatasetError(path, f"'observations' has {rows} rows, not 1 to {MOST_ROWS}", FETCH_AGAIN)
    widths = {"observations": (robot.observations,), "actions": (robot.actions,), MEANS: (robot.actions,)}
    for key, array in found.items():
        wanted = (rows, *widths.get(key, ()))
        if array.shape != wanted:
            reason = f"{key!r} has shape {array.shape}, not {wanted} as {robot.name} has{_whose(found)}"
            raise DatasetError(path, reason, FETCH_AGAIN)
        chunk = math.prod(array.chunks or ()) * array.dtype.itemsize
        if array.nbytes > MAX_GROWTH[key in FLAGS] * array.id.get_storage_size() + ROWS or chunk > MOST_CHUNK:
            stored = f"{array.id.get_storage_size()} bytes stored, chunks of {chunk}"
            raise DatasetError(path, f"{key!r} would unpack to {array.nbytes} bytes ({stored})", FETCH_AGAIN)
        if array.dtype.kind not in ("biu" if key in FLAGS else "f"):
            kind = "true or false" if key in FLAGS else "floating point numbers"
            raise DatasetError(path, f"{key!r} holds {array.dtype}, not {kind}", FETCH_AGAIN)
    return found


def _whose(found: Mapping[str, h5py.Dataset]) -> str:
    shapes = (found["observations"].shape[1:], found["actions"].shape[1:])
    fits = [robot.name for robot in ROBOTS.values() if shapes == ((robot.observations,), (robot.actions,))]
    return f"; these are the dimensions of {' or '.join(fits)}" if fits else ""


def _flags(source: h5py.Dataset, path: Path) -> np.ndarray:
    values = np.asarray(source)
    numbers = values.view(np.uint8) if values.dtype == bool else values  # a damaged byte is no true or false either
    if not np.isin(numbers, (0, 1)).all():
        raise DatasetError(path, f"{_name(source)!r} holds other values than 0 and 1", FETCH_AGAIN)
    return values.astype(bool)


def _name(source: h5py.Dataset) -> str:
    return str(source.name).lstrip("/")


def _columns(source: h5py.Dataset, path: Path, rows: int, robot: Robot) -> np.ndarray:
    """The first `rows` rows as float32, checked piece by piece so that float64 never lies in memory whole."""
    key = _name(source)
    kept = (robot.simulated,) if key == "observations" else source.shape[1:]
    values = np.empty((rows, *kept), np.float32)
    for first in range(0, rows, ROWS):
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
            block = np.asarray(source[first : min(first + ROWS, rows)]).astype(np.float32, copy=False)
        bad = ~np.isfinite(block)
        problem = "not a finite number"
        if key in ("actions", MEANS):
            bad |= np.abs(block) > 1 + ROUNDING
            problem = "not within [-1, 1]"
        elif key == "observations" and robot.simulated < robot.observations:
            bad[:, robot.simulated :] |= block[:, robot.simulated :] != 0
            problem = f"not finite, or from dimension {robot.simulated} on, not 0 as all of D4RL's are"
        if bad.any():
            place = tuple(int(i) for i in np.argwhere(bad)[0])
            where = f"{key}[{', '.join(map(str, (first + place[0], *place[1:])))}] is {block[place]}"
            raise DatasetError(path, f"{where}: {problem}", FETCH_AGAIN)
        values[first : first + len(block)] = block[:, : kept[0]] if kept else block
    return values


def _check_robot(episodes: Episodes, path: Path, robot: Robot) -> None:
    """Walker2d and HalfCheetah have the same dimensions, but do not start at the same height."""
    height, noise = RESET_HEIGHT[robot.name]
    found = float(np.median(episodes.observations[episodes.starts[:-1], 0]))
    if abs(found - height) > noise + 0.01:
        reason = f"episodes begin at height {found:.2f}, and {robot.name}'s at {height}: another robot's file"
        raise DatasetError(path, reason, FETCH_AGAIN)
    longest = int(episodes.lengths.max())
    if longest > 2 * robot.max_steps:
        reason = f"an episode has {longest} steps, and {robot.name}'s end after {robot.max_steps}: timeouts are missing"
        raise DatasetError(path, reason, FETCH_AGAIN)


def _check_counts(episodes: Episodes, expect: Mapping[str, Any], path: Path, *, tail: bool) -> None:
    # Where the trajectories were counted (Ant), an unfinished last one was counted as well.
    counts = {"complete_steps": len(episodes.rewards), "trajectories": len(episodes) + tail}
    for name, found in counts.items():
        if expect.get(name, found) != found:
            reason = f"has {found} {name.replace('_', ' ')}, and the official file {expect[name]}"
            raise DatasetError(path, reason, FETCH_AGAIN)
    returns = episodes.returns
    spread = {"mean": returns.mean(), "std": returns.std(), "min": returns.min(), "max": returns.max()}
    for name, found in spread.items():
        known = expect.get(f"return_{name}")
        if known is not None and abs(found - known) > 1:  # published without decimals
            log.warning("%s: the %s return of its episodes is %.1f, and %s is known", path, name, found, known)
