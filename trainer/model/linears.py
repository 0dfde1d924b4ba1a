"""megatron-core's linears, which compute without its autograd functions where nothing learns.

A token at a time, the work around a product costs as much as the product. On one tensor rank and
without gradients there is nothing to exchange and nothing to save. A model that trains is left to
megatron-core: what it computes once without gradients is recomputed with them, to the same bit.
"""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear
from torch import Tensor

FEW = range(4, 16)
"""Rows of a product that goes by blocks of the weight on the CPU; others are no faster so."""
SMALL = 1 << 19
"""Elements below which a weight is too small for it: 2 MiB."""


class ColumnLinear(ColumnParallelLinear):
    """A linear whose outputs are sharded over the tensor ranks."""

    def forward(self, input_: Tensor, *arguments: Any, **options: Any) -> tuple[Tensor, Any]:
        """As ColumnParallelLinear's: [sequence, batch, inputs] -> (its outputs, no bias)."""
        if _plain(self) and not arguments and not options:
            return product(input_, self.weight, self.bias), None
        result: tuple[Tensor, Any] = super().forward(input_, *arguments, **options)
        return result


class RowLinear(RowParallelLinear):
    """A linear whose inputs are sharded over the tensor ranks."""

    def forward(self, input_: Tensor) -> tuple[Tensor, Any]:
        """As RowParallelLinear's: [sequence, batch, inputs] -> (its outputs, no bias)."""
        if _plain(self):
            return product(input_, self.weight, self.bias), None
        result: tuple[Tensor, Any] = super().forward(input_)
        return result


def _plain(module: Any) -> bool:
    if torch.is_grad_enabled() or module.training or torch.compiler.is_compiling():
        return False
    return module.tp_group.size() == 1 and not (module.skip_bias_add and module.bias is not None)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """[..., inputs] times the weight [outputs, inputs] -> [..., outputs], without gradients.

    For a few rows, as when texts are written, the CPU's library (MKL) packs a large weight at a
    cost above the product's. A batch of products with its blocks takes a third to nine tenths of
    the time of that.
    """
    outputs, inputs = weight.shape
    rows = x.numel() // inputs
    block = None
    if rows in FEW and weight.dtype == torch.float32 and not weight.is_cuda:
        block = _block(outputs, inputs)
    if block is None:
        return F.linear(x, weight, bias)
    blocks = weight.view(-1, block, inputs).mT
    flat = x.reshape(rows, inputs).expand(outputs // block, -1, -1)
    result = torch.bmm(flat, blocks).transpose(0, 1).reshape(*x.shape[:-1], outputs)
    if bias is not None:
        result += bias
    return result


@cache
def _block(outputs: int, inputs: int) -> int | None:
    """Outputs of a block: the largest multiple of 16, to 128, that divides all; None: no blocks."""
    if outputs * inputs < SMALL:
        return None
    return next((size for size in range(128, 15, -16) if outputs % size == 0), None)
