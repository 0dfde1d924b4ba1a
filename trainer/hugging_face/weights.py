"""The weights of a checkpoint, read so that only one of them is in memory at a time."""

import torch
from torch import Tensor

from trainer.checkpoint.adapted import Reader
from trainer.checkpoint.fitted import FittedReader
from trainer.errors import CheckpointError
from trainer.hugging_face.names import Joined
from trainer.hugging_face.parity import CheckpointTensors


class CheckpointWeights:
    """A checkpoint's weights (CheckpointTensors); its files are mapped only during a read.

    `dtype`: what they are read as (None: as saved). Merged adapters are then not rounded to the
    base's dtype.
    """

    def __init__(self, reader: Reader | FittedReader, dtype: torch.dtype | None = None) -> None:
        self._reader = reader
        self._dtype = dtype

    def keys(self) -> list[str]:
        """The names of the weights, without optimizer state."""
        keys = self._reader.keys()
        return [key for key in keys if key.startswith("model/")]

    def shape(self, key: str) -> tuple[int, ...]:
        """A tensor's global shape."""
        return self._reader.shape(key)

    def dtype(self, key: str) -> torch.dtype:
        """A tensor's dtype when it is read."""
        return self._dtype or self._reader.dtype(key)

    def read(
        self, key: str, offset: tuple[int, ...] | None = None, shape: tuple[int, ...] | None = None
    ) -> Tensor:
        """A tensor, or its block of this shape at `offset`."""
        try:
            return self._reader.read(key, offset, shape, self._dtype)
        finally:
            # Pages once read count as memory for as long as their file is mapped.
            self._reader.close()


def check_weights(weights: CheckpointTensors, tensors: list[Joined], where: str) -> None:
    """Raise CheckpointError unless a checkpoint has exactly these tensors, of these shapes."""
    expected = {f"model/{joined.name}": joined.shape for joined in tensors}
    found = set(weights.keys())
    for key, shape in expected.items():
        if key not in found:
            raise CheckpointError(f"{where}: holds no {key}; is its recipe of another model?")
        if weights.shape(key) != shape:
            raise CheckpointError(
                f"{where}: {key} has shape {list(weights.shape(key))}, and its recipe asks for"
                f" {list(shape)}; choose another checkpoint"
            )
    strangers = sorted(found - expected.keys())
    if strangers:
        raise CheckpointError(
            f"{where}: holds {strangers[0]}, for which Hugging Face's models have no place; export"
            " the merged weights of an adapter"
        )
