"""The lock: exact versions of everything that any extra installs, with the hashes of every file of each.

`write EXTRAS [PIP ARGUMENTS]` (`make lock`) resolves anew and writes constraints.txt (names and versions) and
requirements.lock (the same, with hashes and with who asks for it); `hashes` writes the second only. `select EXTRAS`
prints the part of the lock that these extras need; `make setup` installs that with --require-hashes.

Left out of the lock are torch, whose build differs from machine to machine (exact version, in constraints.txt), the
CUDA libraries that its default build brings, which torch names by their exact versions itself, and this project.
`select` needs nothing but Python.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS, LOCK = ROOT / "constraints.txt", ROOT / "requirements.lock"
TORCH = "torch==2.13.0"
TRITON = "triton==3.7.1"  # what the CUDA builds of this torch ask for by its exact version
BUILD = "setuptools"  # what packages without a wheel, and this one, are built with
NOT_LOCKED = re.compile(r"torch|nvidia-.*|cuda-.*")
PYTHON = "3.11.7"  # the oldest that everything in the lock runs on
HEADER = """\
# Exact versions of everything any extra installs (Python 3.11, Linux). Ranges live in pyproject.toml.
# `make lock` rewrites this file; `make lock-check` checks that every extra still resolves with it.
"""
LOCK_HEADER = """\
# Every file of everything that any extra installs, by its SHA-256. `make lock` rewrites this file, and `make setup`
# installs from it with --require-hashes. Not here: torch (see constraints.txt) and the CUDA libraries it names.
"""


def write(extras: str, pip_arguments: list[str]) -> None:
    """Resolve without installing, and keep name and version, then the hashes, of every distribution."""
    with tempfile.TemporaryDirectory() as folder:
        report, pins = Path(folder) / "report.json", Path(folder) / "torch.txt"
        pins.write_text(f"{TORCH}\n{TRITON}\n")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--report", str(report), "-c", str(pins), *pip_arguments, f"{ROOT}[{extras}]", BUILD]
        subprocess.run(command, check=True)
        installed = json.loads(report.read_text())["install"]
    versions = {}
    for item in installed:
        version = item["metadata"]["version"].partition("+")[0]  # a local build tag is not for everyone
        versions[_plain(item["metadata"]["name"])] = version
    versions.pop("aaren")
    CONSTRAINTS.write_text(HEADER + "".join(f"{n}=={v}\n" for n, v in sorted(versions.items())))
    write_hashes()


def write_hashes() -> None:
    """Write requirements.lock for the versions that constraints.txt has."""
    LOCK.write_text(LOCK_HEADER + "".join(entry for name, entry in _hashed() if not NOT_LOCKED.fullmatch(name)))


def _hashed() -> list[tuple[str, str]]:
    """Each distribution of constraints.txt, and what only other systems need, as `name==version` with all hashes."""
    command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", PYTHON, "--generate-hashes"]
    command += ["--no-header", "--all-extras", "--constraint", str(CONSTRAINTS), "pyproject.toml", "-"]
    text = subprocess.run(command, cwd=ROOT, check=True, text=True, input=BUILD, stdout=subprocess.PIPE).stdout
    return list(entries(text).items())


def entries(text: str) -> dict[str, str]:
    """The entries of a lock by distribution: the line with the version, those with the hashes and with who asks."""
    found: dict[str, str] = {}
    for line in text.splitlines(keepends=True):
        start = re.match(r"([A-Za-z0-9._-]+)==", line)
        name = _plain(start[1]) if start else next(reversed(found), "")
        if name:
            found[name] = found.get(name, "") + line
    return found


def asked_by(entry: str) -> set[str]:
    """The distributions that ask for an entry's, from its `# via` lines."""
    names = re.findall(r"^    # (?:via |  )([A-Za-z0-9][A-Za-z0-9._-]*)", entry, re.M)
    return {_plain(name) for name in names}


def select(extras: str) -> str:
    """The part of the lock that the project needs with these extras (comma-separated), or to be built (`build`)."""
    locked = entries(LOCK.read_text())
    wanted = {BUILD} if extras == "build" else _direct(extras) | {BUILD}
    children: dict[str, set[str]] = {}
    for name, entry in locked.items():
        for parent in asked_by(entry):
            children.setdefault(parent, set()).add(name)
    waiting = [*wanted, *([] if extras == "build" else ["torch"])]
    while waiting:
        new = children.get(waiting.pop(), set()) - wanted
        wanted |= new
        waiting += new
    missing = sorted(name for name in wanted - locked.keys() if not NOT_LOCKED.fullmatch(name))
    if missing:
        raise SystemExit(f"{LOCK.name} lacks {', '.join(missing)}: run make lock and commit what it writes")
    return "".join(entry for name, entry in locked.items() if name in wanted)


def _direct(extras: str) -> set[str]:
    """What pyproject.toml itself asks for: the core and these extras, extras of our own within extras followed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    waiting, seen = [extra.strip() for extra in extras.split(",") if extra.strip()], set()
    while waiting:
        extra = waiting.pop()
        if extra not in project["optional-dependencies"]:
            known = ", ".join(project["optional-dependencies"])
            raise SystemExit(f"EXTRAS={extras}: there is no extra {extra!r}; there are {known}")
        for requirement in () if extra in seen else project["optional-dependencies"][extra]:
            own = re.match(r"aaren\[([^]]*)]", requirement)
            waiting += own[1].split(",") if own else []
            wanted += [] if own else [requirement]
        seen.add(extra)
    return {_plain(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]) for requirement in wanted}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(sys.argv[2], sys.argv[3:])
    elif sys.argv[1] == "hashes":
        write_hashes()
    else:
        sys.stdout.write(select(sys.argv[2]))
