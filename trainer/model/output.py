"""The output projection and the loss, in one module: logits need not exist whole."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from megatron.core.tensor_parallel import (
    ColumnParallelLinear,
    copy_to_tensor_model_parallel_region,
    gather_from_sequence_parallel_region,
)
from torch import Tensor
from torch.nn import ModuleDict

import kernels
from trainer.model.entropy import entropies_of_hidden, entropies_of_logits
from trainer.model.linears import product
from trainer.model.lora.adapters import ColumnAdapter
from trainer.model.lora.targets import size_of
from trainer.recipe import Recipe
from trainer.recipe.kernels import fused_loss
from trainer.recipe.loss import LossSection
from trainer.recipe.shape import HEAD

PLAIN = LossSection()


@dataclass(frozen=True)
class Targets:
    """What the last stage is to predict.

    `labels`: int64 [batch, sequence]; `reduction`: "none" for nats a token, "sum" for their sum,
    whose gradient costs less; `expected_gradient`: fp32 [], the upstream gradient that the sum
    will get (a hint: a correct one saves a pass over the gradient). Where `loss` is not plain, the
    result is stacked along a new first dimension of 2: the objective, and the plain cross entropy,
    which has no gradient. With `entropy` the second is instead the entropy of each token's
    distribution, in nats and without a gradient; `reduction` is then "none" and `loss` plain.
    """

    labels: Tensor
    reduction: Literal["none", "sum"] = "none"
    expected_gradient: Tensor | None = None
    loss: LossSection = PLAIN
    entropy: bool = False


@dataclass(frozen=True)
class AskedLogits:
    """Tokens whose logits the last stage is to make, a block at a time, and what becomes of them.

    `places`: int64 [asked], indices into the tokens of [sequence, batch] in a row, all of them
    under sequence parallelism too; `read(logits, first)`: what is wanted of a block of logits
    [block, vocab / tensor], whose first one is `places[first]`: a tensor of any rows; `block`:
    logits at a time, which bounds the memory.
    """

    places: Tensor
    read: Callable[[Tensor, int], Tensor]
    block: int = 256


class OutputLayer(ColumnParallelLinear):
    """megatron-core's output projection, sharded over the vocabulary; with targets, the losses.

    One module, as ZeRO-3 gathers the weight only around the forward of the module that holds it.
    """

    fused: bool
    padding_rows: int
    """This rank's last rows that take no part."""
    adapters: ModuleDict
    adapters_on: bool

    def forward(
        self,
        input_: Tensor,
        weight: Tensor | None = None,
        runtime_gather_output: bool | None = None,
        targets: Targets | None = None,
        asked: AskedLogits | None = None,
    ) -> tuple[Tensor, Any]:
        """Hidden states [sequence, batch, hidden] -> (logits, or what `targets` ask for; no bias).

        Logits are [sequence, batch, vocab / tensor] in the weight's dtype, losses fp32 [sequence,
        batch] or [] (or two of them, as in `Targets`). `runtime_gather_output` as megatron-core's.
        `asked`: the only logits that are made, and what is read of them is returned, joined. There
        may be none: the module is called all the same, as ZeRO-3's exchanges need it.
        """
        if asked is not None:
            return self._read(self._whole(input_).flatten(0, 1), weight, asked), None
        if targets is None:
            return self._logits(input_, weight, runtime_gather_output), None
        labels, options = targets.labels.t(), _options(targets)
        entropies = None
        if self.fused:
            weight = self.weight if weight is None else weight
            hidden = self._whole(input_)
            if targets.entropy:
                entropies = entropies_of_hidden(hidden, weight, self.tp_group)
            both = kernels.linear_cross_entropy_with_nats(
                *(hidden, weight, labels, self.tp_group), **options
            )
        else:
            produced = self._logits(input_, weight, runtime_gather_output)
            if targets.entropy:
                entropies = entropies_of_logits(produced, self.tp_group)
            both = kernels.cross_entropy_with_nats(
                *(produced, labels, self.tp_group), inplace=True, **options
            )
        if entropies is not None:
            both = both[0], entropies
        elif targets.loss.plain:
            return both[0], None
        return torch.stack(both), None

    def _logits(self, hidden: Tensor, weight: Tensor | None, gather: bool | None) -> Tensor:
        logits: Tensor = super().forward(hidden, weight, gather)[0]
        if self.adapters_on:
            for adapter in self.adapters.values():
                logits = logits + adapter(hidden)
        return self._without_padding(logits)

    def _read(self, hidden: Tensor, weight: Tensor | None, asked: AskedLogits) -> Tensor:
        """What is read of the asked logits; `hidden`: [sequence * batch, hidden]."""
        found = []
        for first in range(0, len(asked.places), asked.block):
            chosen = hidden.index_select(0, asked.places[first : first + asked.block])
            logits = product(chosen, self.weight if weight is None else weight)
            if self.adapters_on:
                for adapter in self.adapters.values():
                    logits = logits + adapter(chosen, whole=True)
            found.append(asked.read(self._without_padding(logits), first))
        if not found:
            return hidden.new_zeros(0)
        return found[0] if len(found) == 1 else torch.cat(found)

    def _without_padding(self, logits: Tensor) -> Tensor:
        if self.padding_rows:
            first = logits.shape[-1] - self.padding_rows
            logits.narrow(-1, first, self.padding_rows).fill_(-torch.inf)
        return logits

    def _whole(self, hidden: Tensor) -> Tensor:
        """[sequence, batch, hidden], whole on each tensor rank; backward sums their gradients."""
        if self.sequence_parallel:
            gathered: Tensor = gather_from_sequence_parallel_region(hidden, group=self.tp_group)
            return gathered
        copied: Tensor = copy_to_tensor_model_parallel_region(hidden, group=self.tp_group)
        return copied


def _options(targets: Targets) -> dict[str, Any]:
    """Keyword arguments of `kernels.cross_entropy_with_nats` and its fused counterpart."""
    return {
        "label_smoothing": targets.loss.label_smoothing,
        "z_loss": targets.loss.z,
        "reduction": targets.reduction,
        "expected_gradient": targets.expected_gradient,
    }


def convert_output_layer(layer: Any, recipe: Recipe) -> None:
    """Convert GPTModel's output layer to an OutputLayer in place."""
    layer.__class__ = OutputLayer
    rows = layer.output_size_per_partition
    end = rows * (layer.tp_group.rank() + 1)
    padding = end - rows * layer.tp_group.size() + recipe.model.padding_rows
    layer.padding_rows = min(max(padding, 0), rows)
    layer.adapters_on = True
    layer.adapters = ModuleDict()
    size = None if recipe.lora is None else size_of(recipe.lora, HEAD)
    if size is not None:
        layer.adapters["lm_head"] = ColumnAdapter(layer, layer.input_size, rows, size)
    layer.fused = fused_loss(recipe, rows)
