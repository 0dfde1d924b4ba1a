"""Reading the weights of a Hugging Face model folder from safetensors, a tensor at a time."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from trainer.errors import CheckpointError
from trainer.parsing import read_json

ONE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"

SAFETENSORS_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_PICKLED = ("*.bin", "*.bin.index.json", "*.pth", "*.pt", "*.ckpt")
# Older folders carry the rotary frequencies, which follow from config.json.
_DERIVED = re.compile(r".*\.rotary_emb\.inv_freq")


class ModelFolder:
    """The tensors of a model folder by name; only their headers are in memory.

    Raises CheckpointError where there are no safetensors, or the index or a file is damaged,
    incomplete or inconsistent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = _files(folder)
        self._tensors: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
        for file in sorted(set(self._files.values())):
            self._read_header(file)
        for name in [name for name in self._files if _DERIVED.fullmatch(name)]:
            del self._files[name], self._tensors[name]

    def names(self) -> list[str]:
        """The tensors' names, sorted."""
        return sorted(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape."""
        return self._tensors[name][1]

    def dtype(self, name: str) -> torch.dtype:
        """A tensor's dtype."""
        return self._tensors[name][0]

    @property
    def nbytes(self) -> int:
        """The size of all tensors in bytes."""
        return sum(prod(shape) * dtype.itemsize for dtype, shape in self._tensors.values())

    def read(self, name: str, rows: tuple[int, int] | None = None) -> Tensor:
        """A tensor, or its rows [first, last), in the stored dtype.

        It is backed by the mapped file, which is unmapped with it, so that pages that were read do
        not accumulate.
        """
        path = self.folder / self._files[name]
        with _opened(path) as file:
            if rows is None:
                values: Tensor = file.get_tensor(name)
            else:
                values = file.get_slice(name)[rows[0] : rows[1]]
        return values

    def check(self, expected: Mapping[str, tuple[int, ...]]) -> None:
        """Raise CheckpointError unless the folder has exactly these tensors, of these shapes."""
        for name, shape in expected.items():
            if name not in self._tensors:
                raise CheckpointError(self._missing(name))
            if self.shape(name) != shape:
                raise CheckpointError(
                    f"{self._file(name)}: {name} has shape {list(self.shape(name))}, and"
                    f" config.json asks for {list(shape)}; they belong to different models"
                )
        strangers = sorted(self._tensors.keys() - expected.keys())
        if strangers:
            more = f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""
            raise CheckpointError(
                f"{self._file(strangers[0])}: holds {strangers[0]}{more}, which a model of this"
                " config.json does not have; is it of another model, or quantized?"
            )

    def drop_copy(self, name: str, original: str) -> bool:
        """Ignore tensor `name` from now on if it equals `original`; returns whether it does."""
        if name not in self._tensors or original not in self._tensors:
            return False
        if self._tensors[name] != self._tensors[original]:
            return False
        if not _equal(self, name, original):
            return False
        del self._files[name], self._tensors[name]
        return True

    def _file(self, name: str) -> Path:
        return self.folder / self._files[name]

    def _missing(self, name: str) -> str:
        if any(found in self._tensors for found in ("embed_tokens.weight", "norm.weight")):
            return (
                f"{self.folder}: its names lack the prefix model., so it is a bare model without"
                " its head; save the ForCausalLM model with transformers' save_pretrained"
            )
        return f"{self.folder}: holds no {name}; its files are incomplete: fetch them again"

    def _read_header(self, file: str) -> None:
        path = self.folder / file
        mine = {name for name, where in self._files.items() if where == file}
        with _opened(path) as opened:
            found = set(opened.keys())
            for name in sorted(mine | found):
                if name not in found:
                    raise CheckpointError(f"{path}: holds no {name}, which {INDEX} puts there")
                if name not in self._files:
                    raise CheckpointError(f"{path}: holds {name}, of which {INDEX} knows nothing")
                if name in mine:
                    tensor = opened.get_slice(name)
                    self._tensors[name] = _described(tensor, name, path)


def _described(tensor: Any, name: str, path: Path) -> tuple[torch.dtype, tuple[int, ...]]:
    dtype = tensor.get_dtype()
    if dtype not in SAFETENSORS_DTYPES:
        raise CheckpointError(
            f"{path}: {name} is of type {dtype}, and only {', '.join(SAFETENSORS_DTYPES)} are read;"
            " save the model unquantized"
        )
    return SAFETENSORS_DTYPES[dtype], tuple(tensor.get_shape())


def _equal(folder: ModelFolder, name: str, other: str) -> bool:
    """Whether two tensors of one shape and dtype are bitwise equal, compared 16 MiB at a time."""
    rows, columns = folder.shape(name)[0], prod(folder.shape(name)[1:])
    step = max(1, (16 << 20) // (columns * folder.dtype(name).itemsize))
    for first in range(0, rows, step):
        rows_read = (first, min(first + step, rows))
        one, two = (folder.read(n, rows_read).contiguous().view(torch.uint8) for n in (name, other))
        if not torch.equal(one, two):
            return False
    return True


def _files(folder: Path) -> dict[str, str]:
    """The file of each tensor, by the tensor's name."""
    if (folder / ONE_FILE).is_file():
        with _opened(folder / ONE_FILE) as file:
            return {name: ONE_FILE for name in file.keys()}  # noqa: SIM118 (no mapping)
    if (folder / INDEX).is_file():
        return _indexed(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder; name one with config.json and {ONE_FILE}")
    pickled = [path.name for pattern in _PICKLED for path in sorted(folder.glob(pattern))]
    if pickled:
        raise CheckpointError(
            f"{folder}: holds only pickled weights ({pickled[0]}), which could run code; load them"
            " with transformers where you trust them, and save_pretrained writes safetensors"
        )
    raise CheckpointError(f"{folder}: holds neither {ONE_FILE} nor {INDEX}; fetch the weights")


def _indexed(folder: Path) -> dict[str, str]:
    path = folder / INDEX
    try:
        files: dict[str, str] = dict(read_json(path.read_bytes())["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({type(error).__name__}); fetch it") from None
    for file in sorted(set(files.values())):
        # The file may be a link, as in a download cache: that is the owner's, not the index's.
        if not isinstance(file, str) or file in ("", ".", "..") or Path(file).name != file:
            raise CheckpointError(f"{path}: names {file!r}, which is not a file of this folder")
        if not (folder / file).is_file():
            raise CheckpointError(f"{folder / file} is missing, and {INDEX} names it; fetch it")
    return files


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path} is damaged: {reason}; fetch it again") from None
