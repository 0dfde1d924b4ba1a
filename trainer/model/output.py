"""The output projection and the loss, in one module: logits need not exist whole."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from megatron.core.tensor_parallel import (
    ColumnParallelLinear,
    copy_to_tensor_model_parallel_region,
    gather_from_sequence_parallel_region,
)
from torch import Tensor

import kernels
from trainer.recipe.kernels import fused_loss
from trainer.recipe.loss import LossSection

PLAIN = LossSection()

PLAIN = LossSection()


@dataclass(frozen=True)
class Targets:
    """What the last stage is to predict.

    `labels`: int64 [batch, sequence]; `reduction`: "none" for nats a token, "sum" for their sum,
    whose gradient costs less; `expected_gradient`: fp32 [], what that sum will be multiplied by
    before the backward pass (a hint: a right one saves a pass over the gradient). Where `loss` is
    not plain, two results stand in the place of one, along a first dimension of 2: what is
    minimised, and the plain cross entropy, which has no gradient.
    """

    labels: Tensor
    reduction: Literal["none", "sum"] = "none"
    expected_gradient: Tensor | None = None
    loss: LossSection = PLAIN


class OutputLayer(ColumnParallelLinear):
    """megatron-core's output projection, each rank a slice of the vocabulary; with targets, losses.

    One module, as ZeRO-3 gives a rank the whole weight only inside the module that holds it.
    """

    fused: bool

    def forward(
        self,
        input_: Tensor,
        weight: Tensor | None = None,
        runtime_gather_output: bool | None = None,
        targets: Targets | None = None,
    ) -> tuple[Tensor, Any]:
        """Hidden states [sequence, batch, hidden] -> (logits, or what `targets` ask for; no bias).

        Logits are [sequence, batch, vocab / tensor], losses fp32 [sequence, batch] or [] (or two of
        them, as in `Targets`).
        """
        if targets is None:
            logits: tuple[Tensor, Any] = super().forward(input_, weight, runtime_gather_output)
            return logits
        labels, options = targets.labels.t(), _options(targets)
        if self.fused:
            weight = self.weight if weight is None else weight
            hidden = self._whole(input_)
            both = kernels.linear_cross_entropy_with_nats(
                *(hidden, weight, labels, self.tp_group), **options
            )
        else:
            produced, _bias = super().forward(input_, weight, runtime_gather_output)
            both = kernels.cross_entropy_with_nats(
                *(produced, labels, self.tp_group), inplace=True, **options
            )
        return both[0] if targets.loss.plain else torch.stack(both), None

    def _whole(self, hidden: Tensor) -> Tensor:
        """The hidden states on each tensor-parallel rank; backward sums what each one adds."""
        if self.sequence_parallel:
            gathered: Tensor = gather_from_sequence_parallel_region(hidden, group=self.tp_group)
            return gathered
        copied: Tensor = copy_to_tensor_model_parallel_region(hidden, group=self.tp_group)
        return copied


def _options(targets: Targets) -> dict[str, Any]:
    """Of the kernels' loss."""
    return {
        "label_smoothing": targets.loss.label_smoothing,
        "z_loss": targets.loss.z,
        "reduction": targets.reduction,
        "expected_gradient": targets.expected_gradient,
    }


def use_targets(layer: ColumnParallelLinear, loss: Literal["auto", "fused", "logits"]) -> None:
    """Let the output layer that GPTModel made take targets too; `loss` as in the recipe."""
    layer.__class__ = OutputLayer
    rows = layer.output_size_per_partition
    layer.fused = fused_loss(loss, rows)
