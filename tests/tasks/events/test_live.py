"""The live demonstration: its monitor's books, and the script itself without a terminal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tasks.events.live import Monitor, endless, train_quickly
from tasks.events.simulate import process

ROOT = Path(__file__).resolve().parents[3]


def test_monitor_scores_before_it_updates():
    law = process("hawkes-marked")
    forecaster = train_quickly(law, attention="aaren", steps=3)
    events = list(endless(law, 0))[:12]
    monitor = Monitor(forecaster)
    with pytest.raises(ValueError, match="no event yet"):
        monitor.chance(0.0, 1.0)
    for event in events:
        monitor.take(*event)
    times, marks = torch.tensor([e[0] for e in events], dtype=torch.float64), torch.tensor([e[1] for e in events])
    with torch.no_grad():
        hidden = forecaster.model(times[None], marks[None], torch.ones(1, 12, dtype=torch.bool))[0, :-1]
        gaps = (times[1:] - times[:-1]).float()
        log_marks = torch.log_softmax(forecaster.model.mark_logits(hidden), -1)
        expected = -forecaster.model.gap_head(hidden).log_prob(gaps) - log_marks[range(11), marks[1:]]
    assert monitor.nll == pytest.approx(float(expected.sum()), rel=1e-4)
    assert monitor.true_nll == pytest.approx(-sum(e[2] for e in events), rel=1e-9)
    assert 0 < monitor.drift < 1
    assert monitor.chance(0.0, 0.1) < monitor.chance(0.0, 10.0)


def test_the_script_streams_and_names_unknown_processes():
    command = [
        sys.executable,
        str(ROOT / "scripts" / "events_demo.py"),
        "--steps",
        "5",
        "--events",
        "20",
        "--speed",
        "0",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "the truth's" in done.stdout
    assert "over 19 events" in done.stdout
    wrong = subprocess.run([*command, "--process", "sunspots"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert wrong.returncode == 2
    assert "known: sin-poisson" in " ".join(wrong.stderr.replace("│", " ").split())
