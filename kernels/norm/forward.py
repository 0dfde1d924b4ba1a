"""The forward kernel of the norms and its launcher."""

import torch
from torch import Tensor

from kernels.language import tl, triton
from kernels.launch import launch
from kernels.tiles import tile


@triton.jit
def _vector(pointer, column, width, PRESENT: tl.constexpr, DEFAULT: tl.constexpr):
    """A weight or bias in fp32, or DEFAULT in every column where there is none."""
    if PRESENT:
        values = tl.load(pointer + column, mask=column < width, other=0.0).to(tl.float32)
    else:
        values = tl.full(column.shape, DEFAULT, tl.float32)
    return values


@triton.jit
def _factor(weight, column, width, HAS_WEIGHT: tl.constexpr, ZERO_CENTERED: tl.constexpr):
    values = _vector(weight, column, width, HAS_WEIGHT, 1.0)
    if HAS_WEIGHT and ZERO_CENTERED:
        values += 1.0
    return values


@triton.jit
def _summed(x, residual, total, columns, inside, HAS_RESIDUAL: tl.constexpr):
    """X in fp32, or x + residual as rounded and written to `total`, which others will see."""
    values = tl.load(x + columns, mask=inside, other=0.0).to(tl.float32)
    if HAS_RESIDUAL:
        values += tl.load(residual + columns, mask=inside, other=0.0).to(tl.float32)
        rounded = values.to(total.dtype.element_ty)
        tl.store(total + columns, rounded, mask=inside)
        values = rounded.to(tl.float32)
    return values


@triton.jit
def _forward(
    x,
    residual,
    weight,
    bias,
    y,
    total,
    mean,
    rstd,
    rows,
    width,
    x_stride,
    residual_stride,
    eps,
    LAYER: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    HAS_WEIGHT: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    ZERO_CENTERED: tl.constexpr,
    LOOPED: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """ROWS rows a program. LAYER subtracts the mean; LOOPED rows are wider than BLOCK."""
    flat = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    row, there = flat[:, None], (flat < rows)[:, None]
    column = tl.arange(0, BLOCK)
    x += row * x_stride
    residual += row * residual_stride
    y += row * width
    total += row * width
    center = tl.zeros((ROWS,), tl.float32)
    square = tl.zeros((ROWS,), tl.float32)
    if LOOPED:
        for start in range(0, width, BLOCK):
            columns = (start + column)[None, :]
            inside = there & (columns < width)
            values = _summed(x, residual, total, columns, inside, HAS_RESIDUAL)
            if LAYER:
                center += tl.sum(values, axis=1)
            else:
                square += tl.sum(values * values, axis=1)
        source = total if HAS_RESIDUAL else x
        if LAYER:
            center /= width
            for start in range(0, width, BLOCK):
                columns = (start + column)[None, :]
                inside = there & (columns < width)
                values = tl.load(source + columns, mask=inside, other=0.0).to(tl.float32)
                values = tl.where(inside, values - center[:, None], 0.0)
                square += tl.sum(values * values, axis=1)
        inverse = tl.rsqrt(square / width + eps)
        for start in range(0, width, BLOCK):
            columns = (start + column)[None, :]
            inside = there & (columns < width)
            values = tl.load(source + columns, mask=inside, other=0.0).to(tl.float32)
            scale = _factor(weight, start + column, width, HAS_WEIGHT, ZERO_CENTERED)
            result = (values - center[:, None]) * inverse[:, None] * scale[None, :]
            if HAS_BIAS:
                result += _vector(bias, start + column, width, True, 0.0)[None, :]
            tl.store(y + columns, result.to(y.dtype.element_ty), mask=inside)
    else:
        columns = column[None, :]
        inside = there & (columns < width)
        values = _summed(x, residual, total, columns, inside, HAS_RESIDUAL)
        if LAYER:
            center = tl.sum(values, axis=1) / width
            values = tl.where(inside, values - center[:, None], 0.0)
        inverse = tl.rsqrt(tl.sum(values * values, axis=1) / width + eps)
        scale = _factor(weight, column, width, HAS_WEIGHT, ZERO_CENTERED)
        result = values * inverse[:, None] * scale[None, :]
        if HAS_BIAS:
            result += _vector(bias, column, width, True, 0.0)[None, :]
        tl.store(y + columns, result.to(y.dtype.element_ty), mask=inside)
    tl.store(rstd + flat, inverse, mask=flat < rows)
    if LAYER:
        tl.store(mean + flat, center, mask=flat < rows)


def launch_forward(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    zero_centered: bool,
    layer: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(y, x + residual, mean, 1 / deviation); a sum or mean that isn't needed is an empty tensor.

    `x`, `residual`: fp32 or bf16 [rows, hidden], last stride 1, and y and the sum like them;
    `weight`, `bias`: [hidden] or None; mean and 1 / deviation: fp32 [rows].
    """
    rows, width = x.shape
    y = torch.empty((rows, width), dtype=x.dtype, device=x.device)
    total = torch.empty_like(y) if residual is not None else y.new_empty(0)
    rstd = torch.empty(rows, dtype=torch.float32, device=x.device)
    mean = torch.empty_like(rstd) if layer else rstd.new_empty(0)
    chosen = tile("norm.forward", width, x.device)
    launch(
        _forward,
        (triton.cdiv(rows, chosen["ROWS"]),),
        x,
        residual if residual is not None else x,
        weight if weight is not None else x,
        bias if bias is not None else x,
        y,
        total if residual is not None else y,
        mean if layer else rstd,
        rstd,
        *(rows, width, x.stride(0), residual.stride(0) if residual is not None else 0, eps),
        LAYER=layer,
        HAS_RESIDUAL=residual is not None,
        HAS_WEIGHT=weight is not None,
        HAS_BIAS=bias is not None,
        ZERO_CENTERED=zero_centered,
        LOOPED=width > chosen["BLOCK"],
        **chosen,
    )
    return y, total, mean, rstd
