"""The errors that a wrong option or a bad data file ends in: what, where, why, and the next step."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


def near_misses(name: str, known: Iterable[str], count: int = 4) -> list[str]:
    """The known names closest to `name`, best first, compared without regard to case."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold(), list(by_folded), n=count, cutoff=0.5)
    return [by_folded[folded] for folded in close]


class ConfigError(ValueError):
    """An option holds a value that cannot be used.

    `option` is the option's name as the user types it (`dataset`, `task.model.n_heads`), `value` what it held,
    `reason` why that is refused, in a form that says what would be accepted.
    """

    def __init__(self, option: str, value: object, reason: str) -> None:
        super().__init__(f"{option}={value!r}: {reason}")
        self.option, self.value, self.reason = option, value, reason

    def __reduce__(self) -> tuple:
        return type(self), (self.option, self.value, self.reason)


class UnknownDataset(ConfigError):
    """No dataset has this name; the message has the near misses and the whole list."""

    def __init__(self, value: str, known: Iterable[str]) -> None:
        self.known = tuple(known)
        self.near = tuple(near_misses(value, self.known))
        hint = f"did you mean {' or '.join(self.near)}? " if self.near else ""
        super().__init__("dataset", value, f"no such dataset; {hint}Known: {', '.join(self.known)}")

    def __reduce__(self) -> tuple:
        return type(self), (self.value, self.known)


class DatasetError(Exception):
    """A data file cannot be used: `path` is where, `reason` is why, `fix` is the next step."""

    def __init__(self, path: str | Path, reason: str, fix: str) -> None:
        super().__init__(f"{path}: {reason}. Fix: {fix}")
        self.path, self.reason, self.fix = str(path), reason, fix

    def __reduce__(self) -> tuple:
        return type(self), (self.path, self.reason, self.fix)


class DatasetUnavailable(DatasetError):
    """No file of the dataset was found anywhere; `fix` is the one command or link that mends it."""
