"""What several tests save: a small checkpoint, and a bare call of the saving function."""

from collections.abc import Iterable
from pathlib import Path

import torch

from trainer.checkpoint import Piece, save_checkpoint

WEIGHT = torch.arange(24, dtype=torch.float32).reshape(4, 6)


def whole(key: str, tensor: torch.Tensor) -> Piece:
    """A tensor as the one piece of itself."""
    return Piece(key, tuple(tensor.shape), (0,) * tensor.dim(), tensor)


def save(run: Path, step: int, pieces: Iterable[Piece] | None = None, **changes: object) -> Path:
    """Save pieces (by default one weight) as a step of a run."""
    arguments: dict[str, object] = {
        "model": {"layers": 2},
        "counters": {"tokens": 10 * step},
        "attachments": {"recipe.yaml": b"steps: 5\n", "tokenizer/tokenizer.json": b"{}"},
    }
    pieces = [whole("model/weight", WEIGHT)] if pieces is None else pieces
    return save_checkpoint(run / "checkpoints", step, pieces, **(arguments | changes))  # type: ignore[arg-type]
