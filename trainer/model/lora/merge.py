"""What merging adapters into their base's weights means, in global tensors."""

from dataclasses import dataclass

from torch import Tensor

from trainer.model.lora.targets import adapted_linears, adapter_name, fused_linears
from trainer.recipe.fine_tuning import LoraSection
from trainer.recipe.model import ModelSection


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
        for ours, fused in fused_linears(model).items():
            parts = [
                Merge(
                    adapter_name(ours, layer, linear, "A"),
                    adapter_name(ours, layer, linear, "B"),
                    fused.rows(linear),
                    lora.scale,
                )
                for linear in fused.names
                if linear in adapted
            ]
            if parts:
                found[f"decoder.layers.{layer}.{ours}.weight"] = parts
    return found
