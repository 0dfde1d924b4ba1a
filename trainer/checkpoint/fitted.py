"""A base read as the model that is trained on it: its embedding grown, its output head untied."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainer.data.tokenizer import Tokenizer
from trainer.recipe.model import ModelSection

if TYPE_CHECKING:
    from trainer.checkpoint.adapted import Reader

WEIGHTS, MASTERS = "model/", "optimizer/master/"
EMBEDDING, HEAD = "embedding.word_embeddings.weight", "output_layer.weight"
_BLOCK_ROWS = 8192


class FittedReader:
    """The weights of `base` (and their fp32 masters) in the shapes of `model`.

    Where the model has an output head and the base's is tied to its embedding, the head is a copy
    of that. `tokens`: how many rows, the first ones, belong to tokens that the base knows; `new`:
    the rows of tokens that it does not know. These, and every row beyond the base's, are the mean
    of the known tokens' rows: what transformers' `resize_token_embeddings` draws from a
    distribution with that mean and a variance of 1e-9, without the draw. So it is with an
    optimizer's moments, whose further rows are padding and take no part.
    """

    def __init__(
        self,
        base: "Reader | FittedReader",
        model: ModelSection,
        tokens: int | None = None,
        new: range = range(0),
    ) -> None:
        self.base = base
        self.folder: Path = base.folder
        self._vocab = model.vocab
        self._untied = not model.tied_embeddings
        self._tokens = tokens
        self._new = new
        self._means: dict[str, Tensor] = {}

    def keys(self) -> list[str]:
        """The names of the tensors, sorted."""
        found = set(self.base.keys())
        for prefix in (WEIGHTS, MASTERS):
            if prefix + HEAD in self:
                found.add(prefix + HEAD)
        return sorted(found)

    def __contains__(self, key: str) -> bool:
        return self._source(key) in self.base

    def shape(self, key: str) -> tuple[int, ...]:
        """The global shape of a tensor; CheckpointError where there is none of this name."""
        rows, *columns = self.base.shape(self._source(key))
        return (self._rows(key, rows), *columns)

    def dtype(self, key: str) -> torch.dtype:
        """The dtype in which a tensor was saved."""
        return self.base.dtype(self._source(key))

    def read(
        self,
        key: str,
        offset: Sequence[int] | None = None,
        shape: Sequence[int] | None = None,
        dtype: torch.dtype | None = None,
        own: bool = True,
    ) -> Tensor:
        """A box of a global tensor, as CheckpointReader reads it."""
        source = self._source(key)
        held = self.base.shape(source)
        as_it_is = self._rows(key, held[0]) == held[0] and not self._new
        if as_it_is or not _is_table(key):
            return self.base.read(source, offset, shape, dtype, own)
        start = tuple(offset) if offset is not None else (0, 0)
        size = tuple(shape) if shape is not None else self.shape(key)
        values = torch.empty(size, dtype=dtype or self.dtype(key))
        columns = slice(start[1], start[1] + size[1])
        values[:] = self._mean(source)[columns]
        for first, last in ((0, self._new.start), (self._new.stop, held[0])):
            first, last = max(first, start[0]), min(last, start[0] + size[0], held[0])
            if first < last:
                box = (last - first, size[1])
                rows = self.base.read(source, (first, start[1]), box)
                values[first - start[0] : last - start[0]] = rows
        return values

    def close(self) -> None:
        """Close the files that reading left open."""
        self.base.close()

    def _source(self, key: str) -> str:
        """The base's tensor that one of the model's is read from."""
        if self._untied and key.endswith(HEAD) and key not in self.base:
            return key.removesuffix(HEAD) + EMBEDDING
        return key

    def _rows(self, key: str, held: int) -> int:
        return self._vocab if _is_table(key) and self._vocab is not None else held

    def _mean(self, source: str) -> Tensor:
        """The mean of the known tokens' rows, fp64 [hidden]; the same on every rank."""
        if source not in self._means:
            held = self.base.shape(source)
            count = held[0] if self._tokens is None else min(self._tokens, held[0])
            total = torch.zeros(held[1], dtype=torch.float64)
            for first in range(0, count, _BLOCK_ROWS):
                box = (min(_BLOCK_ROWS, count - first), held[1])
                total += self.base.read(source, (first, 0), box).sum(0, dtype=torch.float64)
            self._means[source] = total / count
        return self._means[source]


def new_rows(known: Tokenizer, grown: Tokenizer, base: ModelSection) -> range:
    """The rows that a base has to spare for tokens that were added to those that it knows."""
    assert base.vocab is not None, "a saved model has it"
    return range(min(known.size, base.vocab), min(max(known.size, grown.size), base.vocab))


def without_padding(reader: "Reader") -> "Reader | FittedReader":
    """A checkpoint without the rows of its embedding that take no part."""
    model = ModelSection(**reader.model)
    if not model.padding_rows:
        return reader
    return FittedReader(reader, model.model_copy(update={"vocab": used_rows(model)}))


def used_rows(model: ModelSection) -> int:
    """The rows of a saved model's embedding that take part."""
    assert model.vocab is not None, "a saved model has it"
    return model.vocab - model.padding_rows


def _is_table(key: str) -> bool:
    """Whether a key is of the embedding or the output head: a weight, master or moment."""
    return key.rpartition("/")[2] in (EMBEDDING, HEAD)


def padded_otherwise(old: ModelSection, new: ModelSection) -> bool:
    """Whether two embeddings differ in padding rows at most, which other tensor ranks ask for."""
    padded = old.padding_rows or new.padding_rows
    return bool(padded) and used_rows(old) == used_rows(new)
