"""Writing a checkpoint so that a kill, a full disk or a power cut leaves the one before."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from tasks.suite.atomic import remove_leftovers, write_atomic


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's own, but that it syncs to the disk, sweeps up after killed writers, and says what to do if it fails.

    For whoever holds the lock of the run's folder: another writer's temporary file looks like a killed one's.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write `checkpoint` at `path`, whole or not at all.

        Raises:
            WriteError: the folder cannot be written or the disk is full; an older checkpoint stays as it was.
        """
        content = io.BytesIO()
        torch.save(checkpoint, content)
        remove_leftovers(Path(path))
        write_atomic(Path(path), content.getvalue())
