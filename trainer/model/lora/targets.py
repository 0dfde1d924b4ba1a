"""Which linear layers have an adapter, and where Hugging Face's linears lie in our fused ones."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.recipe.fine_tuning import LINEARS, LoraSection, linear_names, matches
from trainer.recipe.model import ModelSection


@dataclass(frozen=True)
class Fused:
    """A linear of ours, as the Hugging Face linears whose rows it holds.

    Its rows come in `groups`; each group holds, one after the other, `widths` rows of the linears
    in `names`. Queries, keys and values are fused a key/value head at a time; gate and up whole.
    """

    names: tuple[str, ...]
    widths: tuple[int, ...]
    groups: int

    def share(self, tensor: int) -> "Fused":
        """What one of `tensor` ranks holds: some of the groups, or a part of the one group."""
        if self.groups % tensor == 0:
            return Fused(self.names, self.widths, self.groups // tensor)
        return Fused(self.names, tuple(width // tensor for width in self.widths), self.groups)

    def rows(self, name: str) -> Tensor:
        """Where the rows of the linear `name`, in order, lie in ours; int64 [rows of it]."""
        places = torch.arange(self.groups * sum(self.widths)).view(self.groups, -1)
        return places.split(list(self.widths), dim=1)[self.names.index(name)].reshape(-1)


def fused_linears(model: ModelSection) -> dict[str, Fused]:
    """The four linears of a block, by our names below the layer."""
    head, groups = model.head_width, model.query_groups
    queries = model.heads // groups * head
    return {
        "self_attention.linear_qkv": Fused(
            ("q_proj", "k_proj", "v_proj"), (queries, head, head), groups
        ),
        "self_attention.linear_proj": Fused(("o_proj",), (model.hidden,), 1),
        "mlp.linear_fc1": Fused(("gate_proj", "up_proj"), (model.ffn, model.ffn), 1),
        "mlp.linear_fc2": Fused(("down_proj",), (model.hidden,), 1),
    }


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
    """The global name of an adapter's matrix, "A" or "B"; `ours` as in `fused_linears`."""
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
