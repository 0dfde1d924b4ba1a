"""megatron-core's linears, which compute without its autograd functions where nothing learns.

A token at a time, the work around a product costs as much as the product. On one tensor rank and
without gradients there is nothing to exchange and nothing to save. A model that trains is left to
megatron-core: what it computes once without gradients is recomputed with them, to the same bit.
"""

from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear
from torch import Tensor

FEW, MORE = 16, 48
"""Rows up to which a product on the CPU goes by blocks of the weight, or from its side."""
BLOCK = 1 << 18
"""Elements of a block of a weight: 1 MiB, which a core's cache holds."""


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
    learns = module.training or torch.is_grad_enabled() or torch.compiler.is_compiling()
    biased = module.skip_bias_add and module.bias is not None
    return not (learns or module.tp_group.size() > 1 or biased)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """[..., inputs] times the weight [outputs, inputs] -> [..., outputs], without gradients.

    For a few rows, as when texts are written, the CPU's library (MKL) packs a large weight at a
    cost above the product's: on one core it is a third faster by blocks. On several cores, and
    for some more rows, it is a fifth faster where the weight stands on the left.
    """
    rows = x.numel() // x.shape[-1]
    outputs, inputs = weight.shape
    if weight.is_cuda or weight.dtype != torch.float32 or not 0 < rows <= MORE:
        return F.linear(x, weight, bias)
    flat = x.reshape(rows, inputs)
    if rows > FEW or torch.get_num_threads() > 1:
        result = torch.mm(weight, flat.t().contiguous()).t().contiguous()
    elif weight.numel() < 2 * BLOCK:
        return F.linear(x, weight, bias)
    else:
        result = flat.new_empty(rows, outputs)
        step = max(BLOCK // inputs, 64)
        for first in range(0, outputs, step):
            block = weight[first : first + step]
            torch.mm(flat, block.t(), out=result[:, first : first + step])
    if bias is not None:
        result += bias
    return result.view(*x.shape[:-1], outputs)
