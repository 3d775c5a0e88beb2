"""The manifest: exactly the 38 names, facts that hang together, and an error that names the field for each mistake."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import pytest
import yaml

from tasks.errors import UnknownDataset
from tasks.suite.manifest import MANIFEST_PATH, VARIANTS, ManifestError, load_manifest, read_manifest

FORECASTING = "ETTh1 ETTh2 ETTm1 ETTm2 Exchange Weather ECL Traffic"
CLASSIFICATION = (
    "EthanolConcentration FaceDetection Handwriting Heartbeat JapaneseVowels PEMS-SF SelfRegulationSCP1 "
    "SelfRegulationSCP2 SpokenArabicDigits UWaveGestureLibrary"
)
EVENTS = "MIMIC Wiki Reddit MOOC StackOverflow Sin Uber Taxi"
RL = " ".join(
    f"{robot}-{tier}"
    for robot in ("halfcheetah", "ant", "hopper", "walker2d")
    for tier in ("medium", "medium-replay", "medium-expert")
)


def test_the_38_names_and_families_are_exactly_the_papers():
    found = {name: load_manifest().datasets[name].family for name in load_manifest().main}
    wanted = dict.fromkeys(FORECASTING.split(), "forecasting")
    wanted |= dict.fromkeys(CLASSIFICATION.split(), "classification")
    wanted |= dict.fromkeys(EVENTS.split(), "events") | dict.fromkeys(RL.split(), "rl")
    assert found == wanted
    assert len(found) == 38
    others = set(load_manifest().datasets) - set(found)
    assert {"known/seasonal", "known/hawkes", "known/hopper-masked", "extra/us-temperatures"} <= others
    assert all(name.startswith(("known/", "extra/")) for name in others)


def test_names_ignore_case_and_unknown_ones_bring_near_misses():
    assert load_manifest().find("etth1").name == "ETTh1"
    with pytest.raises(UnknownDataset, match=r"did you mean Weather.*Known: ETTh1, ") as caught:
        load_manifest().find("wether")
    assert caught.value.near[0] == "Weather"
    assert isinstance(caught.value, ValueError)


def test_d4rls_names_are_known_too_but_no_other_version():
    assert load_manifest().find("Hopper-Medium-v2").name == "hopper-medium"
    for name in ("hopper-medium-v0", "hopper-medium-v1", "ETTh1-v2", "hopper-v2"):
        with pytest.raises(UnknownDataset):
            load_manifest().find(name)


@pytest.mark.parametrize("name", list(load_manifest().datasets))
def test_facts_of_a_dataset_hang_together(name: str):
    entry = load_manifest().datasets[name]
    assert list(entry.variants) == [variant for variant in VARIANTS if variant in entry.variants]
    for variant in entry.variants.values():
        missing = not variant.files and variant.name != "synthetic"
        assert not missing or variant.fix, "a set without files must say how a person gets it"
        for layout in variant.layouts:
            assert len({file.role for file in layout}) == len(layout)
            if entry.family == "classification":
                assert {file.role for file in layout} == {"train", "test"}
        if entry.family == "forecasting" and variant.files:
            assert set(variant.shape) == {"rows", "channels"}
            if "mean" in variant.statistics:
                assert len(variant.statistics["mean"]) == len(variant.statistics["std"]) == variant.shape["channels"]
        if entry.family == "classification":
            assert variant.classes is not None
            for part in ("train", "test"):
                counts = variant.statistics.get(part, {}).get("class_counts")
                assert counts is None or (sum(counts), len(counts)) == (variant.shape[part], variant.classes)


def test_needs_neither_torch_nor_the_readers():
    blocked = ["torch", "pandas", "sktime", "numpy", "pyarrow", "pooch", "lightning"]
    code = f"import sys\nfor name in {blocked}: sys.modules[name] = None\n"
    code += "from tasks.suite.manifest import load_manifest\nprint(len(load_manifest().main))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "38"


def _etth1(raw: dict[str, Any]) -> dict[str, Any]:
    return raw["datasets"]["ETTh1"]["variants"]["official"]


def _set(*keys: str | int, to: Any):
    def change(raw: dict[str, Any]) -> None:
        place: Any = _etth1(raw)
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = to

    return change


MISTAKES = {
    "family": (lambda raw: raw["datasets"]["ETTh1"].update(family="vision"), r"ETTh1\.family: 'vision' is none of"),
    "variant": (lambda raw: raw["datasets"]["ETTh1"].update(variants={"best": {}}), r"ETTh1\.variants: 'best'"),
    "no variant": (lambda raw: raw["datasets"]["ETTh1"].update(variants={}), "at least one variant"),
    "top field": (lambda raw: raw.update(extra=1), "the file: unknown field 'extra'"),
    "field": (_set("colour", to=1), r"ETTh1\.variants\.official: unknown field 'colour'"),
    "shape": (_set("shape", "rows", to="many"), r"official\.shape\.rows: expected a whole number"),
    "shape bool": (_set("shape", "rows", to=True), r"official\.shape\.rows: expected a whole number"),
    "no licence": (_set("licence", to=""), r"official\.licence: missing"),
    "classes": (_set("classes", to=0), r"official\.classes"),
    "labels": (_set("labels", to=["a"]), "1 labels for None classes"),
    "statistics": (_set("statistics", to=[1]), r"official\.statistics: expected a mapping"),
    "files": (_set("files", to={}), r"official\.files: expected a list"),
    "file field": (_set("files", 0, "colour", to=1), r"files\[0\]: unknown field 'colour'"),
    "role": (_set("files", 0, "role", to=""), r"files\[0\]\.role: missing"),
    "twice a role": (_set("files", 1, "format", to="parquet"), "a role appears twice"),
    "format": (_set("files", 0, "format", to="xls"), r"files\[0\]\.format: 'xls'"),
    "check": (_set("files", 0, "check", to="maybe"), r"files\[0\]\.check: 'maybe'"),
    "absolute": (_set("files", 0, "path", to="/etc/passwd"), "not a plain relative path"),
    "parent": (_set("files", 0, "path", to="a/../../b"), "not a plain relative path"),
    "backslash": (_set("files", 0, "path", to="a\\b"), "not a plain relative path"),
    "short hash": (_set("files", 0, "sha256", to="abc"), r"files\[0\]\.sha256: expected 64"),
    "upper hash": (_set("files", 0, "sha256", to="A" * 64), r"files\[0\]\.sha256: expected 64"),
    "no hash": (_set("files", 0, "sha256", to=None), r"files\[0\]\.sha256: missing, and check is strict"),
    "blob": (_set("files", 0, "git_blob", to=12), r"files\[0\]\.git_blob: expected 40"),
    "bytes": (_set("files", 0, "bytes", to=-1), r"files\[0\]\.bytes"),
    "address": (_set("files", 0, "urls", to=["file:///etc/passwd"]), "no http address"),
    "address list": (_set("files", 0, "urls", to="https://example.org"), r"files\[0\]\.urls: expected a list"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_names_file_and_field(mistake: str, tmp_path, raw_manifest):
    change, message = MISTAKES[mistake]
    raw = copy.deepcopy(raw_manifest)
    change(raw)
    path = tmp_path / "manifest.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    with pytest.raises(ManifestError, match=message) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)


@pytest.fixture(scope="module")
def raw_manifest() -> dict[str, Any]:
    raw = yaml.safe_load(MANIFEST_PATH.read_text(encoding="utf-8"))
    return {"datasets": {"ETTh1": raw["datasets"]["ETTh1"]}, "materials": raw["materials"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("datasets: {A: 1, A: 2}", "'A' appears twice"),
        ("datasets: [", "not a readable manifest"),
        ("[]", "the file: expected a mapping"),
        ("datasets: !!python/object/apply:os.getcwd []", "not a readable manifest"),
        ("datasets: {1: {}}", "expected a mapping with names as keys"),
    ],
)
def test_text_that_is_no_manifest(text: str, message: str, tmp_path):
    path = tmp_path / "manifest.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ManifestError, match=message):
        read_manifest(path)


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(ManifestError, match=r"gone\.yaml"):
        read_manifest(tmp_path / "gone.yaml")
