"""Checkpoints: saved at one layout, loaded at any other; complete or not there at all."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trainer.checkpoint.files import verify_checkpoint
from trainer.checkpoint.folders import (
    ListedCheckpoint,
    latest_checkpoint,
    list_checkpoints,
    resolve_checkpoint,
    rotate,
)
from trainer.checkpoint.format import Piece, folder_name
from trainer.checkpoint.report import CheckpointDifference, diff_checkpoints

if TYPE_CHECKING:
    from trainer.checkpoint.read import CheckpointReader, open_checkpoint
    from trainer.checkpoint.write import save_checkpoint
else:
    _NEED_TORCH = {
        "CheckpointReader": "trainer.checkpoint.read",
        "open_checkpoint": "trainer.checkpoint.read",
        "save_checkpoint": "trainer.checkpoint.write",
    }

    def __getattr__(name: str) -> Any:
        """What moves tensors, imported on first use: to list checkpoints needs no torch."""
        if name not in _NEED_TORCH:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_NEED_TORCH[name]), name)


__all__ = [
    "CheckpointDifference",
    "CheckpointReader",
    "ListedCheckpoint",
    "Piece",
    "diff_checkpoints",
    "folder_name",
    "latest_checkpoint",
    "list_checkpoints",
    "open_checkpoint",
    "resolve_checkpoint",
    "rotate",
    "save_checkpoint",
    "verify_checkpoint",
]
