"""What is locked and installed: audited without network; and the audit sees what is wrong."""

from __future__ import annotations

import re
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def audit(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import audit

    return audit


def test_the_lock_and_what_is_installed_pass_the_audit(audit):
    # what a developer's own environment holds besides is shown by make audit, and is an error in CI's, which is fresh
    assert audit.problems(strangers=False) == []


def _spoilt(text: str, kind: str) -> str:
    first = re.search(r"^([a-z0-9-]+)==(\S+) \\\n((?:    --hash=\S+(?: \\)?\n)+)", text, re.M)
    assert first
    return {
        "range": text.replace(f"{first[1]}=={first[2]}", f"{first[1]}==1.*", 1),
        "no hash": text.replace(first[3], "", 1),
        "short hash": text.replace(first[3], "    --hash=sha256:00\n", 1),
        "address": text.replace(first[0], f"--index-url https://example.org\n{first[0]}\n    --find-links x\n", 1),
        "other version": text.replace(f"{first[1]}=={first[2]}", f"{first[1]}==0.0.1", 1),
        "torch": text + "torch==2.13.0 \\\n    --hash=sha256:" + "0" * 64 + "\n",
        "less": text.replace(first[0], "", 1),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("range", "is no exact version"),
        ("no hash", "no SHA-256"),
        ("short hash", "no SHA-256"),
        ("address", "names an address"),
        ("other version", "in constraints.txt"),
        ("torch", "its build is the machine's own"),
        ("less", "requirements.lock lacks"),
    ],
)
def test_the_audit_sees_what_is_wrong(audit, monkeypatch, tmp_path, kind, message):
    spoilt = tmp_path / "requirements.lock"
    spoilt.write_text(_spoilt(audit.lock.LOCK.read_text(), kind))
    monkeypatch.setattr(audit.lock, "LOCK", spoilt)
    assert [line for line in audit.problems(installed=False) if message in line]


def test_a_blocked_release_and_a_stranger_are_seen(audit, monkeypatch, tmp_path):
    name, entry = next(iter(audit.lock.entries(audit.lock.LOCK.read_text()).items()))
    version = entry.partition("==")[2].split()[0]
    blocked = tmp_path / "blocked"
    blocked.write_text(f"# why not\n{name}=={version}  # a test\npytest==9.9\n")
    monkeypatch.setattr(audit, "BLOCKED", blocked)
    assert f"{name}=={version} is blocked: a test" in audit.problems(installed=False)
    monkeypatch.setattr(audit, "NOT_PINNED", re.compile("torch"))
    assert any("aaren==" in line and "not locked" in line for line in audit.problems())


@pytest.mark.parametrize(
    ("stated", "fine"),
    [
        ("MIT", True),
        ("Apache-2.0 WITH LLVM-exception OR (MIT AND BSD-3-Clause)", True),
        ("The 3-Clause BSD License", False),
        ("GPL-3.0-only", False),
        ("MIT AND LGPL-2.1", False),
        ("", False),
    ],
)
def test_licences_are_of_the_list(audit, stated, fine):
    facts = Message()
    if stated:
        facts["License-Expression"] = stated
    assert (audit.unknown_licence(facts) is None) == fine


def test_a_selection_is_whole_and_an_unknown_extra_is_named(audit):
    lock = audit.lock
    core, development = (set(lock.entries(lock.select(extras))) for extras in ("", "suite,dev"))
    assert {"numpy", "numba", "llvmlite", "sympy", "filelock"} <= core < development
    assert {"lightning", "pytest", "antlr4-python3-runtime", "setuptools"} <= development
    assert "d4rl" not in development
    assert not [name for name in development if lock.NOT_LOCKED.fullmatch(name)]
    assert set(lock.entries(lock.select("build"))) == {"setuptools"}
    with pytest.raises(SystemExit, match="no extra 'gpus'"):
        lock.select("gpus")


def test_no_tracked_file_names_a_package_host(audit):
    hosts = re.compile(r"pypi\.|pythonhosted|--(extra-)?index-url")
    for path in (ROOT / "requirements.lock", ROOT / "constraints.txt", ROOT / "Makefile", ROOT / ".ci" / "run"):
        assert not hosts.search(path.read_text(encoding="utf-8")), path
