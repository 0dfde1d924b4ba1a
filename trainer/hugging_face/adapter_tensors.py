"""An adapter's tensors as pieces of our checkpoint, and merged with its base as PEFT does."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from trainer.checkpoint import Piece
from trainer.errors import CheckpointError
from trainer.hugging_face.adapter_files import AdapterFile
from trainer.hugging_face.names import TensorPart, tensor_map
from trainer.hugging_face.parity import rows_of
from trainer.hugging_face.weights import CheckpointWeights
from trainer.model.lora.targets import adapted_names, adapter_names
from trainer.recipe.lora import LoraSection, saved_modules
from trainer.recipe.model import ModelSection
from trainer.recipe.shape import EMBEDDING, HEAD


def adapter_pieces(file: AdapterFile, lora: LoraSection, model: ModelSection) -> Iterator[Piece]:
    """The adapters and what was saved whole, bit for bit, read only when they are written."""
    for name in adapted_names(lora, model.layers):
        for matrix, ours in zip("AB", adapter_names(model, name), strict=True):
            yield _piece(ours, file, file.adapters[name, matrix])
    whole = saved_modules(lora, model)
    for joined in tensor_map(model):
        if joined.name.rpartition(".")[0] not in whole:
            continue
        names = {part.name: _saved_name(file, part.name) for part in joined.parts}
        dtypes = {file.dtypes[name] for name in names.values()}
        if len(dtypes) > 1:
            raise CheckpointError(
                f"{file.path}: {', '.join(names)} are one tensor here and of different types there"
            )
        yield Piece(
            f"model/{joined.name}",
            joined.shape,
            (0,) * len(joined.shape),
            torch.empty(joined.shape, dtype=dtypes.pop(), device="meta"),
            partial(joined.join, lambda part, n=names: file.read(n[part])),  # type: ignore[misc]
        )


def _saved_name(file: AdapterFile, name: str) -> str:
    """The file's name of a weight that is saved whole; of a tied embedding either will do."""
    tables = (f"{EMBEDDING}.weight", f"{HEAD}.weight")
    for one in (name, *(tables if name in tables else ())):
        if one in file.whole:
            return file.whole[one]
    raise CheckpointError(
        f"{file.path}: holds no {name}, which modules_to_save names; fetch it again"
    )


def _piece(ours: str, file: AdapterFile, name: str) -> Piece:
    shape = file.shapes[name]
    empty = torch.empty(shape, dtype=file.dtypes[name], device="meta")
    return Piece(f"model/{ours}", shape, (0,) * len(shape), empty, partial(file.read, name))


class PeftTensors:
    """The base's tensors under Hugging Face's names, with the adapter merged as PEFT does.

    It reads like a model folder: `names`, `nbytes`, `read`.
    """

    def __init__(
        self, file: AdapterFile, lora: LoraSection, model: ModelSection, base: CheckpointWeights
    ) -> None:
        self._file, self._lora, self._base = file, lora, base
        self._parts: dict[str, tuple[str, TensorPart]] = {
            part.name: (joined.name, part) for joined in tensor_map(model) for part in joined.parts
        }

    def names(self) -> list[str]:
        """The names of the adapter's tensors."""
        return list(self._file.shapes)

    @property
    def nbytes(self) -> int:
        """Bytes of the adapter's tensors."""
        sizes = (torch.Size(shape).numel() for shape in self._file.shapes.values())
        widths = (dtype.itemsize for dtype in self._file.dtypes.values())
        return sum(n * width for n, width in zip(sizes, widths, strict=True))

    def read(self, name: str, rows: tuple[int, int]) -> Tensor:
        """Rows [first, last) of a tensor, fp32."""
        first, last = rows
        if name in self._file.whole:
            return self._file.read(self._file.whole[name])[first:last].float()
        joined, part = self._parts[name]
        if len(part.row_ranges) == 1:
            start = part.row_ranges[0][0]
            found = rows_of(self._base, f"model/{joined}", start + first, start + last).float()
        else:
            read = partial(rows_of, self._base, f"model/{joined}")
            found = part.take(read, torch.float32)[first:last]
        module = name.rpartition(".")[0]
        if not name.endswith(".weight") or (module, "A") not in self._file.adapters:
            return found
        down, up = (self._file.read(self._file.adapters[module, m]).float() for m in "AB")
        if module == EMBEDDING:
            down, up = up.t(), down.t()
        return found + self._lora.scale_of(module) * (up[first:last] @ down)
