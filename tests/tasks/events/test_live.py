"""The live demonstration: its monitor's books, and the script itself without a terminal."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
import typer

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


def test_the_script_streams_and_names_unknown_processes(capsys):
    spec = importlib.util.spec_from_file_location("events_demo", ROOT / "scripts" / "events_demo.py")
    assert spec is not None
    assert spec.loader is not None
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    demo.main(attention="transformer", steps=3, events=12, speed=0.0)
    shown = capsys.readouterr().out
    assert "the truth's" in shown
    assert "over 11 events" in shown
    with pytest.raises(typer.BadParameter, match="known: sin-poisson"):
        demo.main(process="sunspots")
    with pytest.raises(typer.BadParameter, match="without a window"):
        demo.main(process="sin-poisson")
