"""A checkpoint of LoRA adapters read together with its base: as separate tensors, or merged."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from trainer.checkpoint.fitted import MASTERS, WEIGHTS, FittedReader
from trainer.checkpoint.lora_base import LoraBase, find_base, holds_adapters
from trainer.checkpoint.read import CheckpointReader, open_checkpoint
from trainer.data.tokenizer import MAIN_FILE, Tokenizer
from trainer.errors import CheckpointError
from trainer.model.lora.targets import Merge, is_adapter, merges
from trainer.parallel.agreement import Ranks
from trainer.recipe import Recipe
from trainer.recipe.lora import LoraSection
from trainer.recipe.model import ModelSection

TOKENIZER = "tokenizer/"
"""Prefix of the attachments that are the tokenizer's files."""


class AdaptedReader:
    """Adapters and their base as one checkpoint: step, counters and attachments are the adapters'.

    Of the base, only the weights and their fp32 masters are visible, and of those only what did not
    train whole beside the adapters. `adapters`, `base`: the open checkpoints; `named`: the base as
    the adapters record it.
    """

    def __init__(self, adapters: CheckpointReader, base: CheckpointReader, named: LoraBase) -> None:
        self.adapters = adapters
        self.base = base
        self.named = named
        self.folder = adapters.folder
        self.step = adapters.step
        self.model = adapters.model
        self.counters = adapters.counters
        self._fitted = FittedReader(base, ModelSection(**adapters.model))

    def keys(self) -> list[str]:
        """The names of the global tensors, sorted."""
        return sorted({*self.adapters.keys(), *self._base_keys()})

    def __contains__(self, key: str) -> bool:
        return key in self.adapters or self._in_base(key)

    def shape(self, key: str) -> tuple[int, ...]:
        """The global shape of a tensor; CheckpointError where there is none of this name."""
        return self._holder(key).shape(key)

    def dtype(self, key: str) -> torch.dtype:
        """The dtype in which a tensor was saved."""
        return self._holder(key).dtype(key)

    def read(
        self,
        key: str,
        offset: Sequence[int] | None = None,
        shape: Sequence[int] | None = None,
        dtype: torch.dtype | None = None,
        own: bool = True,
    ) -> Tensor:
        """A box of a global tensor, as CheckpointReader reads it."""
        return self._holder(key).read(key, offset, shape, dtype, own)

    def attachments(self) -> list[str]:
        """The names of the small files saved with the adapters."""
        return self.adapters.attachments()

    def attachment(self, name: str) -> bytes:
        """A small file's content; CheckpointError where it isn't there."""
        return self.adapters.attachment(name)

    def require_model(self, model: dict[str, Any]) -> None:
        """Raise CheckpointError naming what differs, where another model was saved."""
        self.adapters.require_model(model)

    def lora(self) -> LoraSection:
        """The recipe's lora section under which the adapters were trained.

        Raises CheckpointError where the saved recipe has none.
        """
        lora = saved_recipe(self.adapters).lora
        if lora is None:
            raise CheckpointError(
                f"checkpoint {self.folder}: its recipe has no lora section, and it holds adapters; "
                "choose another checkpoint"
            )
        return lora

    def close(self) -> None:
        """Close the files that reading left open."""
        self.adapters.close()
        self.base.close()

    def _base_keys(self) -> list[str]:
        return [key for key in self._fitted.keys() if self._in_base(key)]  # noqa: SIM118

    def _in_base(self, key: str) -> bool:
        """Whether a key is the base's, and not of a weight that the adapters' checkpoint holds."""
        if not key.startswith((WEIGHTS, MASTERS)) or key not in self._fitted:
            return False
        return WEIGHTS + _name(key) not in self.adapters

    def _holder(self, key: str) -> CheckpointReader | FittedReader:
        return self._fitted if key not in self.adapters and key in self else self.adapters


class MergedReader(AdaptedReader):
    """The base's weights with the adapters merged into them: a whole model without adapters."""

    def __init__(self, adapters: CheckpointReader, base: CheckpointReader, named: LoraBase) -> None:
        super().__init__(adapters, base, named)
        self._merges = merges(self.lora(), ModelSection(**self.model))

    def keys(self) -> list[str]:
        """The names of the weights and masters, sorted."""
        whole = [key for key in self.adapters.keys() if key in self]  # noqa: SIM118
        return sorted([*self._base_keys(), *whole])

    def __contains__(self, key: str) -> bool:
        if not key.startswith((WEIGHTS, MASTERS)) or is_adapter(key):
            return False
        return key in self.adapters or self._in_base(key)

    def read(
        self,
        key: str,
        offset: Sequence[int] | None = None,
        shape: Sequence[int] | None = None,
        dtype: torch.dtype | None = None,
        own: bool = True,
    ) -> Tensor:
        """A box of W + scale * B A, computed in fp32 and cast to W's stored dtype (or `dtype`).

        The merge of Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.
        """
        holder, parts = self._holder(key), self._merges.get(_name(key))
        if parts is None:
            return holder.read(key, offset, shape, dtype, own)
        whole = holder.shape(key)
        start = tuple(offset) if offset is not None else (0, 0)
        size = tuple(shape) if shape is not None else whole
        merged = holder.read(key, start, size, torch.float32)
        for part in parts:
            self._add(part, merged, start)
        return merged.to(dtype or holder.dtype(key))

    def _add(self, part: Merge, merged: Tensor, start: tuple[int, ...]) -> None:
        inside = (part.rows >= start[0]) & (part.rows < start[0] + merged.shape[0])
        if not inside.any():
            return
        down, up = (self._best(name) for name in (part.A, part.B))
        if part.of_embedding:
            down, up = up.t(), down.t()
        columns = down[:, start[1] : start[1] + merged.shape[1]]
        merged[part.rows[inside] - start[0]] += part.scale * (up[inside] @ columns)

    def _best(self, name: str) -> Tensor:
        """An adapter's matrix as fp32: its master copy where one was saved, else the weight."""
        key = MASTERS + name if MASTERS + name in self.adapters else WEIGHTS + name
        return self.adapters.read(key, dtype=torch.float32)


def _name(key: str) -> str:
    return key.removeprefix(WEIGHTS).removeprefix(MASTERS)


Reader = CheckpointReader | AdaptedReader
"""Any checkpoint that weights can be restored from."""


def open_trained(
    folder: Path,
    group: dist.ProcessGroup | None = None,
    base_at: Path | None = None,
    verified: bool = False,
) -> Reader:
    """Open and verify a checkpoint, with its base where it holds adapters; collective.

    `base_at`: one more folder to look for the base in. `verified`: all ranks together have hashed
    the checkpoint itself a moment ago. Raises CheckpointError on all ranks alike.
    """
    adapters = open_checkpoint(folder, group, verified)
    if not holds_adapters(adapters):
        return adapters
    named, base = _open_base(adapters, group, base_at)
    return AdaptedReader(adapters, base, named)


def open_merged(folder: Path, group: dist.ProcessGroup | None = None) -> Reader:
    """As `open_trained`, with the adapters merged into their base."""
    adapters = open_checkpoint(folder, group)
    if not holds_adapters(adapters):
        return adapters
    named, base = _open_base(adapters, group, None)
    return MergedReader(adapters, base, named)


def read_merged(adapters: CheckpointReader) -> Reader:
    """As `open_merged`, for a checkpoint that is open; a file is verified when it is first read."""
    if not holds_adapters(adapters):
        return adapters
    named = find_base(adapters)
    return MergedReader(adapters, CheckpointReader(named.folder), named)


def saved_recipe(reader: Reader) -> Recipe:
    """The resolved recipe that was saved with a checkpoint."""
    source = str(reader.folder / "recipe.yaml")
    return Recipe.from_yaml(reader.attachment("recipe.yaml").decode(), source)


def trained_length(reader: Reader) -> int:
    """Tokens of the longest sequence that a checkpoint's weights were trained on, in any stage.

    Of an imported model: its `max_position_embeddings`.
    """
    longest: int | None = reader.counters.get("longest_sequence")
    return longest or saved_recipe(reader).sequence_length


def saved_files(reader: Reader, prefix: str) -> dict[str, bytes]:
    """The small files in a checkpoint whose names begin so, by the rest of their names."""
    names = [name for name in reader.attachments() if name.startswith(prefix)]
    return {name.removeprefix(prefix): reader.attachment(name) for name in names}


def saved_tokenizer(reader: Reader) -> Tokenizer:
    """The tokenizer in a checkpoint; raises CheckpointError where there is none."""
    files = saved_files(reader, TOKENIZER)
    if MAIN_FILE not in files:
        raise CheckpointError(f"checkpoint {reader.folder} holds no tokenizer; choose another one")
    return Tokenizer(files, str(reader.folder / "tokenizer"))


def _open_base(
    adapters: CheckpointReader, group: dist.ProcessGroup | None, also: Path | None
) -> tuple[LoraBase, CheckpointReader]:
    found, reason = None, None
    try:
        found = find_base(adapters, also)
    except CheckpointError as error:
        reason = str(error)
    failure = Ranks(group).first_failure(reason)
    if failure:
        raise CheckpointError(failure[1])
    assert found is not None
    return found, open_checkpoint(found.folder, group)
