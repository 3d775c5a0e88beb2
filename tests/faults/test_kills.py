"""Ten kills in one sweep's life: every stage, both signals; `make faults` does fifty over all four families."""

from __future__ import annotations

import signal

from tasks.suite import locks

MOMENTS = (
    # preparation, then training, ... : the sweep goes on after each blow, so that a later stage is there to be hit
    ("preparation", 0, 0.5, "SIGKILL", "files"),
    ("preparation", 0, 0.9, "SIGTERM", "files"),
    ("training", 4, 0.5, "SIGKILL", "time"),
    ("training", 1, 0.0, "SIGTERM", "files"),
    ("checkpointing", 1, 0.5, "SIGKILL", "files"),
    ("checkpointing", 0, 0.9, "SIGKILL", "files"),
    ("record", 0, 0.7, "SIGKILL", "files"),
    ("record", 0, 0.3, "SIGTERM", "files"),
    ("tables", 0, 0.4, "SIGKILL", "files"),
    ("tables", 0, 0.8, "SIGTERM", "files"),
)


def test_a_sweep_killed_ten_times_ends_like_one_that_was_not(tmp_path):
    import faults_kills as harness
    from faults_trials import pair

    harness.warm(tmp_path / "warm")
    jobs = pair("classification")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert harness.run(jobs, whole) == 0
    known, done = harness.stages(whole), {}
    for blow in (harness.Blow(*moment) for moment in MOMENTS):
        code = harness.run(jobs, broken, blow, known)
        assert code in (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM), f"{blow} hit nothing: {code}"
        assert harness.damaged(broken) == [], blow
        now = harness.finished(broken)
        assert {run: now[run] for run in done} == done, f"{blow}: a finished job was done again"
        done = now
        locks.bury(broken / "runs", blow.signal)
        assert harness.damaged(broken) == [], blow
        assert harness.finished(broken) == done, "a finished job was buried"
    assert harness.run(jobs, broken) == 0
    assert harness.finished(broken).items() >= done.items()
    assert harness.outcomes(broken) == harness.outcomes(whole)
    assert harness.leftovers(broken) == 0, "temporary files of killed writers stayed"
    assert len(done) == 2, "the tables were built from nothing"


def test_damage_is_seen(tmp_path):
    """The harness itself: what it takes for whole is whole."""
    import faults_kills as harness
    import numpy as np

    np.savez(tmp_path / "whole.npz", a=np.arange(100))
    content = (tmp_path / "whole.npz").read_bytes()
    assert harness.damaged(tmp_path) == []
    (tmp_path / "flipped.npz").write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    for name in ("record.json", "cut.json", "cut.ckpt", "cut.hdf5"):
        (tmp_path / name).write_bytes(content[:50])
    (tmp_path / ".cut.npz.tmp").write_bytes(content[:50])
    assert len(harness.damaged(tmp_path)) == 5
    assert harness.leftovers(tmp_path) == 1
