"""scripts/data.py as a user meets it: what it prints, what it exits with, and how fast."""

from __future__ import annotations

import functools
import hashlib
import http.server
import importlib.util
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tasks.suite import manifest
from tasks.suite.manifest import DatasetEntry, FileEntry, Manifest, VariantEntry, load_manifest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "data.py"
REAL_ROOT = os.environ.get("AAREN_DATA")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable, folder in (("AAREN_DATA", "data"), ("AAREN_CACHE", "cache"), ("D4RL_DATASET_DIR", "d4rl")):
        monkeypatch.setenv(variable, str(tmp_path / folder))
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def app():
    spec = importlib.util.spec_from_file_location("data_script", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.app


def call(app, *arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def rows(output: str) -> dict[str, str]:
    names = set(load_manifest().datasets)
    return {line.split()[0]: line for line in output.splitlines() if line.split() and line.split()[0] in names}


def test_status_without_data_root_names_every_dataset_and_its_one_step(app, home):
    result = call(app, "status")
    assert result.exit_code == 0
    assert f"{home / 'data'} (does not exist)" in result.stdout
    found = rows(result.stdout)
    assert set(found) == set(load_manifest().datasets)
    assert " of 38 datasets of the paper are ready, 1 of them as the official set" in result.stdout
    for name, words in {
        "JapaneseVowels": ("official", "sktime"),
        "Sin": ("synthetic", "generated"),
        "extra/us-temperatures": ("ready", "vega-datasets"),
        "ETTh1": ("missing", "-> python scripts/data.py get ETTh1"),
        "hopper-medium": ("ready", "surrogate", "aaren", "-> official: python scripts/data.py get hopper-medium"),
        "known/hopper-masked": ("ready", "surrogate", "aaren"),
        "ECL": ("missing", "-> download electricity.csv by hand"),
        "MIMIC": ("official: get credentialed access", "physionet.org"),
    }.items():
        assert all(word in found[name] for word in words), found[name]


def test_status_shows_ready_damaged_and_lesser_variants(app, home):
    uber = load_manifest().datasets["Uber"].variants["sample"].files[0]
    etth1 = load_manifest().datasets["ETTh1"].variants["official"].files[0]
    for file, size in ((uber, uber.bytes), (etth1, 7)):
        (home / "data" / file.path).parent.mkdir(parents=True)
        (home / "data" / file.path).write_bytes(bytes(size or 0))
    found = rows(call(app, "status", "uber", "ETTh1", "etth2").stdout)
    assert set(found) == {"Uber", "ETTh1", "ETTh2"}
    assert "damaged" in found["ETTh1"]
    assert "truncated" in found["ETTh1"]
    assert "sample" in found["Uber"]
    assert "data root" in found["Uber"]


def test_status_of_a_full_data_root(app, home, monkeypatch):
    """The real one where $AAREN_DATA names it, else files of the same names and sizes."""
    if REAL_ROOT:
        monkeypatch.setenv("AAREN_DATA", REAL_ROOT)
    else:
        families = [e for e in load_manifest().datasets.values() if e.family in ("forecasting", "classification")]
        official = [entry.variants["official"] for entry in families if "official" in entry.variants]
        for file in (file for variant in official for file in variant.files):
            if file.format in ("parquet", "ts.xz"):
                path = home / "data" / file.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
                os.truncate(path, file.bytes or 1)
    found = rows(call(app, "status", "forecasting", "classification").stdout)
    ready = {name for name, line in found.items() if " ready " in line and not name.startswith(("known/", "extra/"))}
    assert len(ready) == 11


def test_status_and_help_are_fast_and_import_nothing_heavy(home):
    heavy = ["torch", "pandas", "sktime", "pooch", "pyarrow", "lightning", "scipy"]
    block = f"import sys, runpy\nfor name in {heavy}: sys.modules[name] = None\nsys.argv = ['data.py', 'status']\n"
    code = f"{block}runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "of 38 datasets" in done.stdout
    assert done.stderr == ""
    assert time.perf_counter() - started < 10  # under 3 s on a free core; the machine may be busy


def test_unknown_names_end_in_near_misses(app):
    for command in ("status", "get", "verify"):
        result = call(app, command, "ETTh3")
        assert result.exit_code == 2
        assert "did you mean" in result.stderr
        assert "ETTh1" in result.stderr


def test_verify_reports_each_file_and_fails_on_a_bad_one(app, home):
    good = call(app, "verify")
    assert good.exit_code == 0
    known = load_manifest().datasets.values()
    files = [file for entry in known for variant in entry.variants.values() for file in variant.files]
    embedded = sum(file.package is not None for file in files)
    assert f"{embedded} files, 0 bad" in good.stdout
    etth1 = load_manifest().datasets["ETTh1"].variants["official"].files[0]
    path = home / "data" / etth1.path
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(etth1.bytes or 0))
    bad = call(app, "verify")
    assert bad.exit_code == 1
    assert f"{embedded + 1} files, 1 bad" in bad.stdout
    (line,) = [line for line in bad.stdout.splitlines() if line.startswith("bad")]
    assert str(path) in line
    assert "SHA-256" in line
    assert call(app, "verify", "classification").exit_code == 0


def test_get_fetches_says_where_and_goes_on_after_a_failure(app, home, monkeypatch):
    (home / "www").mkdir()
    (home / "www/toy.csv").write_bytes(b"date,OT\n")
    handler = functools.partial(QuietHandler, directory=str(home / "www"))
    server = http.server.HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/toy.csv"
    file = FileEntry("series", "csv", "toy.csv", 8, hashlib.sha256(b"date,OT\n").hexdigest(), urls=(url,))
    entries = {
        "Gone": VariantEntry("official", "none", {}, fix="ask the authors"),
        "Toy": VariantEntry("official", "none", {}, (file,)),
        "Made": VariantEntry("synthetic", "none", {}),
    }
    datasets = {name: DatasetEntry(name, "forecasting", {entry.name: entry}) for name, entry in entries.items()}
    monkeypatch.setattr(manifest, "load_manifest", lambda: Manifest(datasets, {}))
    try:
        result = call(app, "get", "all")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert result.exit_code == 1
    assert "Gone: not ready" in result.stdout
    assert "ask the authors" in result.stdout
    assert f"Toy: fetched, verified: {home / 'data/toy.csv'}" in result.stdout
    assert "Made: made by the suite itself" in result.stdout


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass
