"""The `d4rl` package, an optional extra: where it imports, its reference scores are held against ours.

Nothing needs it. Its import dies on machines of today for want of MuJoCo 2.1, which reading its tables does not take.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType

import numpy as np

from tasks.rl.robots import ROBOTS, TIERS, normalized_score

log = logging.getLogger(__name__)
TOLERANCE = 1e-9
_ABSENT = object()


def import_d4rl() -> ModuleType | None:
    """The package, or None where it is not installed or does not import; what it prints goes to the log.

    Two stand-ins last as long as the import. `mujoco_py` counts as missing: d4rl goes on without it, but not where it
    is there and broken. And gymnasium is there for gym where that is not installed (d4rl without its dependencies).
    """
    if "d4rl" in sys.modules:
        return sys.modules["d4rl"]
    if importlib.util.find_spec("d4rl") is None:
        return None
    said = io.StringIO()
    before = set(sys.modules)
    try:
        with (
            _stand_ins(),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
        ):
            warnings.simplefilter("ignore")
            return importlib.import_module("d4rl")
    except Exception as error:  # its dependencies raise whatever they like
        for name in [name for name in sys.modules if name.partition(".")[0] == "d4rl" and name not in before]:
            del sys.modules[name]
        log.info("d4rl is installed and does not import (%s); going on without it", error)
        return None
    finally:
        log.debug("d4rl's import said: %s", said.getvalue())


def compare() -> str | None:
    """One line that says whether d4rl's normalised scores are ours, within 1e-9 of a point; None without d4rl."""
    package = import_d4rl()
    if package is None:
        return None
    worst = 0.0
    for robot in ROBOTS.values():
        returns = np.linspace(-500.0, 13000.0, 28)
        for tier in TIERS:
            theirs = 100 * package.get_normalized_score(f"{robot.name}-{tier}-v2", returns)
            worst = max(worst, float(np.abs(theirs - normalized_score(robot, returns)).max()))
    verdict = "agree with ours" if worst <= TOLERANCE else f"DIFFER from ours by up to {worst:.3g} points"
    return f"normalised scores of the installed d4rl {verdict}"


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    replaced: dict[str, object] = {}

    def put(name: str, module: ModuleType | None) -> None:
        replaced[name] = sys.modules.get(name, _ABSENT)
        sys.modules[name] = module  # pyright: ignore[reportArgumentType]  # None: importing it raises ImportError

    if "mujoco_py" not in sys.modules:
        put("mujoco_py", None)
    if importlib.util.find_spec("gym") is None:
        for name in ("gymnasium", "gymnasium.utils", "gymnasium.envs.registration", "gymnasium.envs.mujoco"):
            importlib.import_module(name)
        for name in [name for name in sys.modules if name.partition(".")[0] == "gymnasium"]:
            put(name.replace("gymnasium", "gym", 1), sys.modules[name])
    try:
        yield
    finally:
        for name, module in replaced.items():
            if module is _ABSENT:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module  # pyright: ignore[reportArgumentType]
