"""Checkpoints: saved at one layout, loaded at any other; complete or not there at all."""

from trainer.checkpoint.files import verify_checkpoint
from trainer.checkpoint.folders import (
    ListedCheckpoint,
    latest_checkpoint,
    list_checkpoints,
    resolve_checkpoint,
    rotate,
)
from trainer.checkpoint.format import Piece, folder_name
from trainer.checkpoint.read import CheckpointReader, open_checkpoint
from trainer.checkpoint.report import CheckpointDifference, diff_checkpoints
from trainer.checkpoint.write import save_checkpoint

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
