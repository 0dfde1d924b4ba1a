"""Which modules have an adapter or train whole, and what merging adapters into their base means."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.recipe.lora import TABLES, LoraSection
from trainer.recipe.model import ModelSection
from trainer.recipe.shape import EMBEDDING, HEAD, Linear, block_linears, linear_names


@dataclass(frozen=True)
class AdapterSize:
    """An adapter's inner width, and what its output is multiplied by."""

    rank: int
    scale: float


def rows_of_part(linear: Linear, part: str) -> Tensor:
    """Where the rows of a Hugging Face linear, in its order, lie in ours; int64 [rows of it]."""
    return torch.cat([torch.arange(*rows) for rows in linear.row_ranges(part)])


def size_of(lora: LoraSection, name: str) -> AdapterSize | None:
    """The adapter of the module of this full name, if it gets one."""
    return AdapterSize(lora.rank_of(name), lora.scale_of(name)) if lora.adapts(name) else None


def adapted_parts(lora: LoraSection, layer: int, linear: Linear) -> dict[str, AdapterSize]:
    """The adapters of block `layer` (from 0) beside a linear of ours, by part, such as q_proj."""
    names = {part: f"model.layers.{layer}.{linear.module}.{part}" for part in linear.parts}
    sizes = {part: size_of(lora, name) for part, name in names.items()}
    return {part: size for part, size in sizes.items() if size is not None}


def adapted_names(lora: LoraSection, layers: int) -> list[str]:
    """The full Hugging Face names of all adapted modules of a model of so many blocks."""
    return [name for name in (EMBEDDING, *linear_names(layers), HEAD) if lora.adapts(name)]


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name, local or global, belongs to an adapter."""
    return ".adapters." in name


def adapter_names(model: ModelSection, name: str) -> tuple[str, str]:
    """The global names of A and B of the adapter beside the module of this full name."""
    short = name.rpartition(".")[2]
    return tuple(f"{_module(model, name)}.adapters.{short}.{matrix}" for matrix in "AB")  # type: ignore[return-value]


def _module(model: ModelSection, name: str) -> str:
    if name in TABLES:
        return "embedding.word_embeddings" if name == EMBEDDING else "output_layer"
    _model, _layers, layer, _module, part = name.split(".")
    ours = next(linear.name for linear in block_linears(model) if part in linear.parts)
    return f"decoder.layers.{layer}.{ours}"


@dataclass(frozen=True)
class Merge:
    """One adapter's share in one of our weights: weight[rows] += scale * B A.

    `A`, `B`: the matrices' global names; `rows`: int64 [outputs]; `of_embedding`: the weight has a
    row a token, to which A^T B^T is added.
    """

    A: str
    B: str
    rows: Tensor
    scale: float
    of_embedding: bool = False


def merges(lora: LoraSection, model: ModelSection) -> dict[str, list[Merge]]:
    """The adapters of each weight that has some, by the weight's global name.

    `model.vocab` must be set.
    """
    found: dict[str, list[Merge]] = {}
    for name, size in _sizes(lora, model.layers).items():
        pair, module = adapter_names(model, name), _module(model, name)
        if name in TABLES:
            assert model.vocab is not None, "the rows of the embedding are known"
            rows = torch.arange(model.vocab)
        else:
            linears = {part: linear for linear in block_linears(model) for part in linear.parts}
            part = name.rpartition(".")[2]
            rows = rows_of_part(linears[part], part)
        merge = Merge(*pair, rows, size.scale, name == EMBEDDING)
        found.setdefault(f"{module}.weight", []).append(merge)
    return found


def _sizes(lora: LoraSection, layers: int) -> Mapping[str, AdapterSize]:
    sizes = {name: size_of(lora, name) for name in adapted_names(lora, layers)}
    return {name: size for name, size in sizes.items() if size is not None}
