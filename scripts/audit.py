"""Check what is locked and installed, without network: `make audit`, which CI runs in an environment of its own.

Every pin exact and with hashes, in step with constraints.txt and pyproject.toml, none of requirements.blocked; torch by
its exact version; and of what is installed: the locked versions, licences of the list below, and nothing else.
Needs nothing but Python.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import lock

BLOCKED = lock.ROOT / "requirements.blocked"
# What comes without a pin: this project, pip that installed it, and torch with its libraries (see scripts/lock.py).
NOT_PINNED = re.compile(r"aaren|pip|wheel|" + lock.NOT_LOCKED.pattern)
# Licences under which a package may be used, changed and passed on with this project; words of SPDX expressions, and
# those of the older free-text fields. The Mozilla licence asks for nothing as long as its files are left as they are.
LICENCES = frozenset(
    {
        *("0bsd", "apache", "apache-2.0", "bsd", "bsd-2-clause", "bsd-3-clause", "bsl-1.0", "cc0-1.0", "hpnd", "isc"),
        *("mit", "mit-0", "mit-cmu", "mpl", "mpl-2.0", "psf", "psf-2.0", "python-2.0", "unlicense", "zlib"),
        "llvm-exception",
    }
)
_CONNECTIVES = frozenset({"and", "or", "with", "license", "licence", "2.0"})
_OLD_NAMES = (
    (r"(new|modified|revised|3-clause) bsd|3-clause bsd license|bsd 3-clause", "bsd-3-clause"),
    (r"apache (software )?(license )?,?( version)? ?2(\.0)?|apache software", "apache"),
    (r"mozilla public license 2\.0 \(mpl 2\.0\)", "mpl"),
    (r"python software foundation", "psf"),
    (r"isc license \(iscl\)", "isc"),
    (r"expat", "mit"),
    (r"\(cmu license\)", ""),
)


def problems(installed: bool = True, strangers: bool = True) -> list[str]:
    """All that is wrong, a line each; `strangers`: also what is installed and not locked."""
    found = [*_lock(), *_blocked(lock.entries(lock.LOCK.read_text()))]
    if installed:
        found += _installed(strangers)
    return found


def _lock() -> Iterator[str]:
    entries = lock.entries(lock.LOCK.read_text(encoding="utf-8"))
    pins = dict(line.split("==") for line in lock.CONSTRAINTS.read_text().splitlines() if line and line[0] != "#")
    for name, entry in entries.items():
        pin = _version(entry)
        if not re.fullmatch(r"[0-9][0-9A-Za-z.!+]*", pin):
            yield f"{name}: {pin!r} is no exact version"
        hashes = re.findall(r"--hash=(\S+)", entry)
        if not hashes or not all(re.fullmatch("sha256:[0-9a-f]{64}", known) for known in hashes):
            yield f"{name}: no SHA-256"
        if re.search(r"://|--(index|extra|find|trusted)", entry):
            yield f"{name}: names an address, which the lock leaves to the machine"
        if name in pins and pins[name] != pin:
            yield f"{name}: {pin} in {lock.LOCK.name}, {pins[name]} in {lock.CONSTRAINTS.name}"
        if lock.NOT_LOCKED.fullmatch(name):
            yield f"{name}: locked, though its build is the machine's own"
    if f"torch=={pins.get('torch')}" != lock.TORCH:
        yield f"torch: {pins.get('torch')} in {lock.CONSTRAINTS.name}, {lock.TORCH} in scripts/lock.py"
    missing = sorted(name for name in pins.keys() - entries.keys() if not lock.NOT_LOCKED.fullmatch(name))
    if missing:
        yield f"{lock.LOCK.name} lacks {', '.join(missing)}"
    try:
        lock.select(os.environ.get("EXTRAS", "suite,dev"))
    except SystemExit as error:
        yield str(error)


def _version(entry: str) -> str:
    return entry.partition("==")[2].split()[0] if "==" in entry else ""


def blocked() -> dict[tuple[str, str], str]:
    """(name, version) -> why."""
    found = {}
    for line in BLOCKED.read_text(encoding="utf-8").splitlines():
        pin, _, why = line.partition("#")
        if pin.strip():
            name, _, version = pin.strip().partition("==")
            found[name, version] = why.strip()
    return found


def _blocked(entries: dict[str, str]) -> Iterator[str]:
    for (name, version), why in blocked().items():
        if name in entries and _version(entries[name]) == version:
            yield f"{name}=={version} is blocked: {why}"


def _installed(strangers: bool) -> Iterator[str]:
    entries, bad = lock.entries(lock.LOCK.read_text()), blocked()
    for item in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", item.metadata["Name"]).lower()
        if (name, item.version) in bad:
            yield f"{name}=={item.version} is installed and blocked: {bad[name, item.version]}"
        if name == "torch" and f"torch=={item.version.partition('+')[0]}" != lock.TORCH:
            yield f"torch {item.version} is installed, not {lock.TORCH}"
        if name in entries:
            if item.version != _version(entries[name]):
                yield f"{name}: {item.version} is installed, {_version(entries[name])} locked"
            unknown = unknown_licence(item.metadata)
            if unknown:
                yield f"{name}: the licence {unknown!r} is not on the list of scripts/audit.py"
        elif strangers and not NOT_PINNED.fullmatch(name):
            yield f"{name}=={item.version} is installed and not locked"


def unknown_licence(facts: Any) -> str | None:
    """What a package says of its licence, where that is not within `LICENCES`; None where it is."""
    stated = facts.get("License-Expression")
    if not stated:
        fields = [line for line in facts.get_all("Classifier") or [] if line.startswith("License ::")]
        names = [line.rpartition("::")[2].strip() for line in fields]
        stated = " AND ".join(name for name in names if name not in ("OSI Approved", "DFSG approved"))
    if not stated:
        stated = (facts.get("License") or "").strip().partition("\n")[0]
    text = stated.lower()
    for pattern, name in _OLD_NAMES:
        text = re.sub(pattern, name, text)
    words = [word.strip("().,") for word in text.split()]
    named = [word for word in words if word and word not in _CONNECTIVES]
    return None if named and set(named) <= LICENCES else stated or "none stated"


def main() -> int:
    """Print what is wrong; the exit code is 1 where anything is."""
    found = problems()
    for line in found:
        print(line, file=sys.stderr)
    locked = len(lock.entries(lock.LOCK.read_text()))
    print(f"{locked} distributions locked by hash, {len(blocked())} blocked: {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
