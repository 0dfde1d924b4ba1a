"""The norms as torch operators: what autograd, torch.compile and FakeTensor see."""

from typing import Any

import torch
from torch import Tensor

from kernels.arguments import rows_of
from kernels.norm.backward import launch_backward
from kernels.norm.forward import launch_forward


@torch.library.custom_op("lyceum::norm", mutates_args=())
def norm(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    zero_centered: bool,
    layer: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(y, x + residual, mean, 1 / deviation) of rows, as `launch_forward` has it.

    `x`, `residual`, y and the sum: [rows, hidden]; `weight`, `bias`: [hidden]; mean and the
    inverse of the deviation: fp32 [rows]. What there is none of is empty, [0].
    """
    return launch_forward(x, residual, weight, bias, eps, zero_centered, layer)


@norm.register_fake
def _(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    zero_centered: bool,
    layer: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    total = torch.empty_like(y) if residual is not None else y.new_empty(0)
    rstd = y.new_empty(x.shape[0], dtype=torch.float32)
    return y, total, torch.empty_like(rstd) if layer else rstd.new_empty(0), rstd


@torch.library.custom_op("lyceum::norm_backward", mutates_args=())
def norm_backward(
    dy: Tensor,
    dtotal: Tensor | None,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    zero_centered: bool,
    layer: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """(dx, dweight, dbias), as `launch_backward` has it: [rows, hidden], [hidden], [hidden].

    `dy`, `dtotal` (the sum's gradient) and `x`: [rows, hidden]; `mean`, `rstd`: fp32 [rows].
    """
    return launch_backward(dy, dtotal, x, weight, bias, mean, rstd, zero_centered, layer)


@norm_backward.register_fake
def _(
    dy: Tensor,
    dtotal: Tensor | None,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    rstd: Tensor,
    zero_centered: bool,
    layer: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    dweight, dbias = (
        torch.empty_like(vector) if vector is not None else dx.new_empty(0, dtype=torch.float32)
        for vector in (weight, bias)
    )
    return dx, dweight, dbias


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, residual, weight, bias, _eps, ctx.zero_centered, ctx.layer = inputs
    _, total, mean, rstd = output
    ctx.added = residual is not None
    ctx.mark_non_differentiable(mean, rstd)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(total if ctx.added else x, weight, bias, mean, rstd)


def _differentiate(
    ctx: Any, dy: Tensor | None, dtotal: Tensor | None, *_: Tensor | None
) -> tuple[Tensor | None, ...]:
    x, weight, bias, mean, rstd = ctx.saved_tensors
    dtotal = rows_of(dtotal) if ctx.added and dtotal is not None else None
    if dy is None:
        return dtotal, dtotal, None, None, None, None, None
    dx, dweight, dbias = norm_backward(
        rows_of(dy), dtotal, x, weight, bias, mean, rstd, ctx.zero_centered, ctx.layer
    )
    return (
        dx,
        dx if ctx.added else None,
        dweight if weight is not None else None,
        dbias if bias is not None else None,
        *(None, None, None),
    )


norm.register_autograd(_differentiate, setup_context=_setup)
