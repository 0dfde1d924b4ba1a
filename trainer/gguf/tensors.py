"""The weights in GGUF files by Hugging Face's names, dequantized a few rows at a time."""

from collections.abc import Mapping
from math import prod
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType
from torch import Tensor

from trainer.errors import CheckpointError
from trainer.gguf.header import GgufTensor
from trainer.gguf.names import gguf_name, heads_interleaved, interleaved_rows
from trainer.recipe.model import ModelSection

_FLOATS = {
    GGMLQuantizationType.F32: torch.float32,
    GGMLQuantizationType.F16: torch.float16,
    GGMLQuantizationType.BF16: torch.bfloat16,
}
_BLOCK_BYTES = 8 << 20


class GgufTensors:
    """The tensors that a model has in GGUF files, as a model folder has them.

    Quantized ones are read as fp32, in which their values are exact. Matrices of one floating type
    keep it; where files mix them, each is read as fp32 too. Raises CheckpointError for a
    quantization that the gguf package does not read.
    """

    def __init__(
        self,
        path: Path,
        tensors: Mapping[str, GgufTensor],
        architecture: str,
        model: ModelSection,
        expected: Mapping[str, tuple[int, ...]],
    ) -> None:
        self.folder = path
        self._architecture, self._model = architecture, model
        self._found = dict(tensors)
        self._names = {name: gguf_name(name) for name in expected}
        kinds = {tensor.kind for tensor in tensors.values() if len(tensor.shape) > 1}
        for kind in kinds - set(_FLOATS):
            _require_readable(kind, path)
        one = next(iter(kinds)) if len(kinds) == 1 else None
        self._matrices = _FLOATS.get(one, torch.float32) if one is not None else torch.float32

    def names(self) -> list[str]:
        """The tensors' names, sorted."""
        return sorted(name for name, theirs in self._names.items() if theirs in self._found)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape."""
        return self._found[self._names[name]].shape

    def dtype(self, name: str) -> torch.dtype:
        """The dtype in which a tensor is read."""
        stored = self._found[self._names[name]]
        return self._matrices if len(stored.shape) > 1 else _FLOATS.get(stored.kind, torch.float32)

    @property
    def nbytes(self) -> int:
        """The size of all tensors in bytes, as they are stored."""
        return sum(self._found[self._names[name]].nbytes for name in self.names())

    def read(self, name: str, rows: tuple[int, int] | None = None) -> Tensor:
        """A tensor, or its rows [first, last), dequantized."""
        stored, dtype = self._found[self._names[name]], self.dtype(name)
        first, last = rows or (0, stored.shape[0])
        if len(stored.shape) == 1:
            return _numbers(stored, _mapped(stored))[0, first:last].to(dtype)
        blocks = _mapped(stored)
        heads = heads_interleaved(name, self._architecture, self._model)
        order = interleaved_rows(stored.shape[0], heads).numpy() if heads else None
        values = torch.empty((last - first, *stored.shape[1:]), dtype=dtype)
        step = max(1, _BLOCK_BYTES // (4 * stored.shape[-1]))
        for row in range(first, last, step):
            end = min(row + step, last)
            chosen = blocks[row:end] if order is None else blocks[order[row:end]]
            values[row - first : end - first] = _numbers(stored, chosen)
        return values

    def check(self, expected: Mapping[str, tuple[int, ...]]) -> None:
        """Raise CheckpointError unless the file has exactly these tensors, of these shapes."""
        for name, shape in expected.items():
            theirs = self._names[name]
            if theirs not in self._found:
                raise CheckpointError(
                    f"{self.folder}: holds no {theirs}, which a model of its metadata has; it is"
                    " incomplete: fetch it again"
                )
            if self._found[theirs].shape != shape:
                raise CheckpointError(
                    f"{self.folder}: {theirs} has shape {list(self._found[theirs].shape)}, and the"
                    f" metadata asks for {list(shape)}; fetch the file again"
                )
        strangers = sorted(set(self._found) - set(self._names.values()))
        if strangers:
            more = f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""
            raise CheckpointError(
                f"{self.folder}: holds {strangers[0]}{more}, which is not computed for a model of"
                f" architecture {self._architecture}; choose another model"
            )

    def drop_copy(self, name: str, original: str) -> bool:
        """False: a GGUF file holds a tied matrix once."""
        return False


def _mapped(stored: GgufTensor) -> np.ndarray:
    """The rows of a tensor as bytes, mapped only as long as they are in use."""
    rows = prod(stored.shape[:-1])
    return np.memmap(
        stored.file, np.uint8, mode="r", offset=stored.start, shape=(rows, stored.row_bytes)
    )


def _numbers(stored: GgufTensor, rows: np.ndarray) -> Tensor:
    """The numbers in rows of bytes, in the dtype that they are stored in, or fp32."""
    content = np.array(rows)
    if stored.kind in _FLOATS:
        return torch.from_numpy(content).view(_FLOATS[stored.kind])
    return torch.from_numpy(gguf.dequantize(content, stored.kind))


def _require_readable(kind: GGMLQuantizationType, path: Path) -> None:
    _block, size = gguf.GGML_QUANT_SIZES[kind]
    try:
        gguf.dequantize(np.zeros((1, size), np.uint8), kind)
    except NotImplementedError:
        raise CheckpointError(
            f"{path}: is quantized as {kind.name}, which the gguf package does not read; convert it"
            " to another quantization"
        ) from None


def stored_values(stored: GgufTensor) -> Tensor:
    """The numbers of a small tensor, in the order of the file, fp32 or as stored."""
    return _numbers(stored, _mapped(stored)).reshape(stored.shape)
