"""Which linear layers have an adapter, and what merging adapters into their base means."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.recipe.fine_tuning import LoraSection, matches
from trainer.recipe.model import ModelSection
from trainer.recipe.shape import LINEARS, Linear, block_linears, linear_names


def rows_of_part(linear: Linear, part: str) -> Tensor:
    """Where the rows of a Hugging Face linear, in its order, lie in ours; int64 [rows of it]."""
    return torch.cat([torch.arange(*rows) for rows in linear.row_ranges(part)])


def adapted_linears(lora: LoraSection, layer: int) -> frozenset[str]:
    """The linears of block `layer` (from 0) that some target means, such as q_proj."""
    names = list(linear_names(layer + 1))[-len(LINEARS) :]
    return frozenset(name.rpartition(".")[2] for name in names if _is_target(lora, name))


def adapted_names(lora: LoraSection, layers: int) -> list[str]:
    """The full Hugging Face names of all adapted linears of a model of so many blocks."""
    return [name for name in linear_names(layers) if _is_target(lora, name)]


def _is_target(lora: LoraSection, name: str) -> bool:
    return any(matches(target, name) for target in lora.targets)


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name, local or global, belongs to an adapter."""
    return ".adapters." in name


def adapter_name(ours: str, layer: int, linear: str, matrix: str) -> str:
    """The global name of an adapter's matrix, "A" or "B"; `ours` is a Linear.name."""
    return f"decoder.layers.{layer}.{ours}.adapters.{linear}.{matrix}"


@dataclass(frozen=True)
class Merge:
    """One adapter's share in one of our weights: weight[rows] += scale * B A.

    `A`, `B`: the matrices' global names; `rows`: int64 [outputs].
    """

    A: str
    B: str
    rows: Tensor
    scale: float


def merges(lora: LoraSection, model: ModelSection) -> dict[str, list[Merge]]:
    """The adapters of each weight that has some, by the weight's global name."""
    found: dict[str, list[Merge]] = {}
    for layer in range(model.layers):
        adapted = adapted_linears(lora, layer)
        for linear in block_linears(model):
            parts = [
                Merge(
                    adapter_name(linear.name, layer, part, "A"),
                    adapter_name(linear.name, layer, part, "B"),
                    rows_of_part(linear, part),
                    lora.scale,
                )
                for part in linear.parts
                if part in adapted
            ]
            if parts:
                found[f"decoder.layers.{layer}.{linear.name}.weight"] = parts
    return found
