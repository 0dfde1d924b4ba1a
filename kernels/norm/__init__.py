"""RMSNorm (Zhang & Sennrich 2019, eq. 4) and LayerNorm (Ba et al. 2016), alone and after an add.

Memory-bound: forward reads x and writes y; backward reads x and dy and writes dx; the residual add
moves two tensors more each way. Every byte is moved once where a row fits in a block; wider rows
are read a second time, from L2.
"""

from torch import Tensor

from kernels.arguments import check, check_device, check_dtype, check_shape, rows_of
from kernels.dispatch import use_triton
from kernels.norm.operator import norm
from kernels.norm.reference import layer_norm_reference, rms_norm_reference

__all__ = ["add_layer_norm", "add_rms_norm", "layer_norm", "rms_norm"]


def rms_norm(
    x: Tensor, weight: Tensor | None = None, eps: float = 1e-5, zero_centered: bool = False
) -> Tensor:
    """Divide each row by its root mean square, sqrt(mean(x^2) + eps), and scale it by `weight`.

    `x`: [..., hidden], fp32 or bf16, any strides; `weight`: [hidden], fp32 or bf16, or none;
    `zero_centered`: the factor is 1 + weight. Statistics and product are in fp32, rounded once to
    x's dtype. Raises ValueError for a wrong shape, dtype or device.
    """
    _check(x, None, weight, None)
    if not use_triton(x):
        return rms_norm_reference(x, weight, eps, zero_centered)
    y: Tensor = norm(rows_of(x), None, weight, None, eps, zero_centered, False)[0]
    return y.view(x.shape)


def add_rms_norm(
    x: Tensor,
    residual: Tensor,
    weight: Tensor | None = None,
    eps: float = 1e-5,
    zero_centered: bool = False,
) -> tuple[Tensor, Tensor]:
    """(rms_norm(x + residual), x + residual), the sum rounded to x's dtype before the norm.

    `x` and `residual`: [..., hidden], one dtype; both results too. Else as in `rms_norm`.
    """
    _check(x, residual, weight, None)
    if not use_triton(x):
        total = x + residual
        return rms_norm_reference(total, weight, eps, zero_centered), total
    y, total, *_ = norm(rows_of(x), rows_of(residual), weight, None, eps, zero_centered, False)
    return y.view(x.shape), total.view(x.shape)


def layer_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    zero_centered: bool = False,
) -> Tensor:
    """(x - mean(x)) / sqrt(variance(x) + eps) * weight + bias, over the last dimension.

    `bias`: [hidden], fp32 or bf16, or none; all else as in `rms_norm`.
    """
    _check(x, None, weight, bias)
    if not use_triton(x):
        return layer_norm_reference(x, weight, bias, eps, zero_centered)
    y: Tensor = norm(rows_of(x), None, weight, bias, eps, zero_centered, True)[0]
    return y.view(x.shape)


def add_layer_norm(
    x: Tensor,
    residual: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    zero_centered: bool = False,
) -> tuple[Tensor, Tensor]:
    """(layer_norm(x + residual), x + residual), the sum rounded to x's dtype before the norm.

    `x` and `residual`: [..., hidden], one dtype; both results too. Else as in `layer_norm`.
    """
    _check(x, residual, weight, bias)
    if not use_triton(x):
        total = x + residual
        return layer_norm_reference(total, weight, bias, eps, zero_centered), total
    y, total, *_ = norm(rows_of(x), rows_of(residual), weight, bias, eps, zero_centered, True)
    return y.view(x.shape), total.view(x.shape)


def _check(x: Tensor, residual: Tensor | None, weight: Tensor | None, bias: Tensor | None) -> None:
    check_dtype("x", x)
    check(x.dim() > 0 and x.shape[-1] > 0, "x: shape {} has no channels to normalise", x.shape)
    if residual is not None:
        check_shape("residual", residual, x.shape, "x's shape")
        check_dtype("residual", residual, (x.dtype,))
        check_device("residual", residual, "x", x)
    for name, vector in (("weight", weight), ("bias", bias)):
        if vector is not None:
            check_dtype(name, vector)
            check_shape(name, vector, x.shape[-1:], "[hidden]")
            check_device(name, vector, "x", x)
