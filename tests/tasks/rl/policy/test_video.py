"""A video of an episode: what is drawn, and what is said where nothing can be."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tasks.rl import video
from tasks.rl.environment import LockStep
from tasks.rl.robots import ROBOTS
from tasks.rl.video import Film, VideoFailed, write_video

HOPPER = ROBOTS["hopper"]


def episode(steps: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.zeros((steps, 6)), np.zeros((steps, 6)), np.linspace(100, 90, steps)


def test_a_film_holds_the_simulators_states_before_each_step():
    simulators, film = LockStep(HOPPER, [3]), Film()
    simulators.reset()
    alive = np.arange(1)
    for step in range(3):
        film(simulators, alive, np.array([100.0 - step]))
        simulators.step(np.zeros((1, 3), np.float32), alive)
    assert film.returns_to_go == [100.0, 99.0, 98.0]
    assert [len(q) for q in film.positions] == [6, 6, 6]
    assert film.positions[0][1] == pytest.approx(1.25, abs=0.01), "the height just after a reset"
    assert not np.array_equal(film.positions[0], film.positions[1])
    simulators.close()


def test_every_way_of_drawing_is_tried_and_named_before_giving_up(tmp_path, monkeypatch, caplog):
    tried = []

    def fails(command, env, **options):
        tried.append(env["MUJOCO_GL"])
        assert command[:3] == [sys.executable, "-m", "tasks.rl.video"]
        return subprocess.CompletedProcess(command, 1, "", f"Traceback\nImportError: no {env['MUJOCO_GL']} here\n")

    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(video.subprocess, "run", fails)
    with pytest.raises(VideoFailed, match=r"egl: ImportError: no egl here; osmesa: .*; glfw: .*Fix: .*MUJOCO_GL"):
        write_video(HOPPER, *episode(), tmp_path / "episode.gif")
    assert tried == ["egl", "osmesa", "glfw"]
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    film = Film()
    film.positions, film.velocities, film.returns_to_go = [np.zeros(6)], [np.zeros(6)], [1.0]
    assert film.develop(HOPPER, tmp_path / "episode.gif") is None, "a result is not lost for want of a picture"
    assert "no osmesa here" in caplog.text
    assert tried[3:] == ["osmesa"], "what the user asked for, and nothing else"
