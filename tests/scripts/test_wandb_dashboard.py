"""The W&B dashboard builds and serialises without a network, and says what to do where it cannot be applied."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.suite.layout import DATASETS

ROOT = Path(__file__).resolve().parents[2]


def _script(*arguments, folder):
    environment = {key: value for key, value in os.environ.items() if key != "WANDB_API_KEY"}
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "wandb_dashboard.py", *arguments],
        capture_output=True, text=True, cwd=folder, env=environment | {"NETRC": str(folder / "none")},
    )  # fmt: skip


# wandb-workspaces 0.4.13 declares its own validators in pydantic's older style.
@pytest.mark.filterwarnings("ignore:Pydantic V1 style")
def test_the_layout_serialises_without_network(monkeypatch):
    from tasks.dashboard import TITLES, layout

    def refuse(*_):
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    view = layout("aaren", "someone")._to_model()
    text = view.model_dump_json(by_alias=True, exclude_none=True)
    spec = json.loads(text)["spec"]
    spec = json.loads(spec) if isinstance(spec, str) else spec
    sections = spec["section"]["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections][1:] == [TITLES[family] for family in DATASETS]
    assert all(section["panels"] for section in sections)
    for key in ("test/mse", "test/nll", "test/accuracy", "test/normalized_score", "val/mse", "tables/summary"):
        assert key in text, key
    grouping = json.dumps(spec["section"]["runSets"])
    for key in ("family", "label", "model_name", "profile"):
        assert key in grouping


def test_without_a_login_the_way_out_is_said(tmp_path):
    done = _script("--entity", "someone", folder=tmp_path)
    assert done.returncode == 2
    assert "wandb login" in done.stderr
    assert "--show" in done.stderr
