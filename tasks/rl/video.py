"""A video of an episode with its return-to-go, made without a display from the states that the simulator went through.

Drawing is done in a process of its own, one for each way of reaching OpenGL: which one works cannot be told before it
is loaded, and what is loaded once stays.  Run as `python -m tasks.rl.video STATES VIDEO`.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Float

from tasks.rl.environment import LockStep, make_env
from tasks.rl.robots import ROBOTS, Robot

log = logging.getLogger(__name__)

BACKENDS = ("egl", "osmesa", "glfw")
FRAMES_A_SECOND = 25
MOST_FRAMES = 250  # a longer episode runs faster than it was
WIDTH, HEIGHT = 320, 240
FIX = "install a driver with EGL, or OSMesa (apt install libosmesa6), and set MUJOCO_GL to egl or osmesa"


class VideoFailed(RuntimeError):
    """No way of drawing worked; the message has each one's reason."""


class Film:
    """Watches a roll-out of one episode: the simulator's state and what is still to be earned before every step."""

    def __init__(self) -> None:
        self.positions: list[np.ndarray] = []
        self.velocities: list[np.ndarray] = []
        self.returns_to_go: list[float] = []

    def __call__(self, simulators: LockStep, alive: np.ndarray, to_earn: np.ndarray) -> None:
        positions, velocities = simulators.configuration(alive[:1])
        self.positions.append(positions[0])
        self.velocities.append(velocities[0])
        self.returns_to_go.append(float(to_earn[0]))

    def develop(self, robot: Robot, path: Path) -> Path | None:
        """The video at `path`; None, and why in the log, where nothing can be drawn."""
        try:
            return write_video(
                robot, np.array(self.positions), np.array(self.velocities), np.array(self.returns_to_go), path
            )
        except VideoFailed as error:
            log.warning("%s", error)
            return None


def write_video(
    robot: Robot,
    positions: Float[np.ndarray, "T nq"],
    velocities: Float[np.ndarray, "T nv"],
    returns_to_go: Float[np.ndarray, " T"],
    path: Path,
) -> Path:
    """Draw a frame a 25th of a second of simulated time, with the step and the return-to-go, as a GIF at `path`.

    Args:
        positions, velocities: as `LockStep.configuration` gives them, one row a step.
        returns_to_go: unscaled.

    Raises:
        VideoFailed: none of EGL, OSMesa and a window works here.
    """
    asked = os.environ.get("MUJOCO_GL")
    reasons = []
    with tempfile.TemporaryDirectory() as folder:
        states = Path(folder) / "states.npz"
        np.savez(states, robot=robot.name, qpos=positions, qvel=velocities, to_go=returns_to_go)
        for backend in [asked] if asked else BACKENDS:
            done = subprocess.run(
                [sys.executable, "-m", "tasks.rl.video", str(states), str(path)],
                env={**os.environ, "MUJOCO_GL": backend},
                capture_output=True,
                text=True,
            )
            if done.returncode == 0 and path.exists():
                return path
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            reasons.append(f"{backend}: {last[:200]}")
    raise VideoFailed(f"no video: MuJoCo cannot draw here ({'; '.join(reasons)}). Fix: {FIX}")


def _draw(states: Path, path: Path) -> None:
    """Render every kept state; the camera follows the robot."""
    import imageio
    import mujoco
    from PIL import Image, ImageDraw

    saved = np.load(states, allow_pickle=False)
    world = make_env(ROBOTS[str(saved["robot"])]).unwrapped
    model = world.model  # pyright: ignore[reportAttributeAccessIssue]
    data, camera = mujoco.MjData(model), mujoco.MjvCamera()  # pyright: ignore[reportAttributeAccessIssue]
    camera.type, camera.trackbodyid = mujoco.mjtCamera.mjCAMERA_TRACKING, 1  # pyright: ignore[reportAttributeAccessIssue]
    camera.distance, camera.elevation = model.stat.extent * 0.9, -15
    step_seconds = world.dt  # pyright: ignore[reportAttributeAccessIssue]
    every = max(1, round(1 / (FRAMES_A_SECOND * step_seconds)), -(-len(saved["qpos"]) // MOST_FRAMES))
    frames = []
    with mujoco.Renderer(model, HEIGHT, WIDTH) as renderer:
        for step in range(0, len(saved["qpos"]), every):
            data.qpos[:], data.qvel[:] = saved["qpos"][step], saved["qvel"][step]
            mujoco.mj_forward(model, data)  # pyright: ignore[reportAttributeAccessIssue]
            renderer.update_scene(data, camera)
            image = Image.fromarray(renderer.render())
            text = f"step {step}   return to go {saved['to_go'][step]:.0f}"
            ImageDraw.Draw(image).text((8, 6), text, fill=(255, 255, 255), stroke_width=1, stroke_fill=(0, 0, 0))
            frames.append(np.asarray(image))
    imageio.mimwrite(path, frames, format="GIF", duration=1000 / FRAMES_A_SECOND, loop=0)  # pyright: ignore


if __name__ == "__main__":
    _draw(Path(sys.argv[1]), Path(sys.argv[2]))
