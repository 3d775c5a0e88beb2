"""Checkpoints that say nothing of the machine that wrote them, and that go on wherever they were moved to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint

_PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")


class PortableCheckpoint(ModelCheckpoint):
    """Lightning's own, whose state names files without their folder.

    Lightning writes absolute paths into every checkpoint, and forgets the best score so far where the folder has moved.
    """

    @property
    def state_key(self) -> str:
        """Lightning's key, so that a job which began with its class is gone on with."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def state_dict(self) -> dict[str, Any]:
        """The state with file names in place of paths."""
        state = super().state_dict()
        state |= {key: Path(state[key]).name for key in _PATHS}
        best = {Path(path).name: score for path, score in state["best_k_models"].items()}
        return state | {"dirpath": "", "best_k_models": best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a state, of this class or of Lightning's own, as one of files in the folder of today."""
        folder = str(self.dirpath)

        def here(path: str) -> str:
            return str(Path(folder) / Path(path).name) if path else ""

        best = {here(path): score for path, score in state_dict["best_k_models"].items()}
        moved = {key: here(state_dict[key]) for key in _PATHS} | {"dirpath": self.dirpath, "best_k_models": best}
        super().load_state_dict(state_dict | moved)
