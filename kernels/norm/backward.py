"""The backward kernels of the norms and their launcher.

With x_hat the normalised row and g = dy * weight: dx = (g - x_hat * mean(g * x_hat) - mean(g)) /
deviation, the last mean for LayerNorm only; dweight = sum over rows of dy * x_hat; dbias of dy.
"""

import torch
from torch import Tensor

from kernels.language import tl, triton
from kernels.launch import launch
from kernels.norm.forward import _factor
from kernels.tiles import processors, tile


@triton.jit
def _backward(
    dy,
    dtotal,
    x,
    weight,
    mean,
    rstd,
    dx,
    dweight,
    dbias,
    rows,
    width,
    dy_stride,
    dtotal_stride,
    x_stride,
    LAYER: tl.constexpr,
    HAS_DTOTAL: tl.constexpr,
    HAS_WEIGHT: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    ZERO_CENTERED: tl.constexpr,
    RELOAD: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A share of the rows a program: dx, and the share's sums for dweight and dbias.

    RELOAD reads the weight again for each row, from cache, where registers cannot hold it.
    """
    program, programs = tl.program_id(0), tl.num_programs(0)
    column = tl.arange(0, BLOCK)
    columns = column[None, :]
    scale = _factor(weight, column, width, HAS_WEIGHT, ZERO_CENTERED)
    weight_sum = tl.zeros((ROWS, BLOCK), tl.float32)
    bias_sum = tl.zeros((ROWS, BLOCK), tl.float32)
    for start in range(program * ROWS, rows, programs * ROWS):
        flat = (start + tl.arange(0, ROWS)).to(tl.int64)
        row, there = flat[:, None], flat < rows
        inside = there[:, None] & (columns < width)
        inverse = tl.load(rstd + flat, mask=there, other=0.0)[:, None]
        hat = tl.load(x + row * x_stride + columns, mask=inside, other=0.0).to(tl.float32)
        if LAYER:
            center = tl.load(mean + flat, mask=there, other=0.0)[:, None]
            hat = tl.where(inside, hat - center, 0.0)
        hat *= inverse
        upstream = tl.load(dy + row * dy_stride + columns, mask=inside, other=0.0).to(tl.float32)
        if HAS_WEIGHT:
            weight_sum += upstream * hat
        if HAS_BIAS:
            bias_sum += upstream
        if RELOAD:
            scale = _factor(weight, column, width, HAS_WEIGHT, ZERO_CENTERED)
        upstream *= scale[None, :]
        along = tl.sum(upstream * hat, axis=1) / width
        gradient = upstream - hat * along[:, None]
        if LAYER:
            gradient -= (tl.sum(upstream, axis=1) / width)[:, None]
        gradient *= inverse
        if HAS_DTOTAL:
            gradient += tl.load(dtotal + row * dtotal_stride + columns, mask=inside, other=0.0).to(
                tl.float32
            )
        tl.store(dx + row * width + columns, gradient.to(dx.dtype.element_ty), mask=inside)
    share = program.to(tl.int64) * width + column
    if HAS_WEIGHT:
        tl.store(dweight + share, tl.sum(weight_sum, axis=0), mask=column < width)
    if HAS_BIAS:
        tl.store(dbias + share, tl.sum(bias_sum, axis=0), mask=column < width)


@triton.jit
def _hat(x, columns, inside, center, inverse):
    values = tl.load(x + columns, mask=inside, other=0.0).to(tl.float32)
    return tl.where(inside, values - center, 0.0) * inverse


@triton.jit
def _backward_wide(
    dy,
    dtotal,
    x,
    weight,
    mean,
    rstd,
    dx,
    width,
    dy_stride,
    dtotal_stride,
    x_stride,
    LAYER: tl.constexpr,
    HAS_DTOTAL: tl.constexpr,
    HAS_WEIGHT: tl.constexpr,
    ZERO_CENTERED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One row that is wider than a block: its dx."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    dy += row * dy_stride
    dtotal += row * dtotal_stride
    x += row * x_stride
    inverse = tl.load(rstd + row)
    center = 0.0
    if LAYER:
        center = tl.load(mean + row)
    products = tl.zeros((BLOCK,), tl.float32)
    upstreams = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, width, BLOCK):
        columns = start + column
        inside = columns < width
        scale = _factor(weight, columns, width, HAS_WEIGHT, ZERO_CENTERED)
        upstream = tl.load(dy + columns, mask=inside, other=0.0).to(tl.float32) * scale
        products += upstream * _hat(x, columns, inside, center, inverse)
        upstreams += upstream
    along = tl.sum(products, axis=0) / width
    average = tl.sum(upstreams, axis=0) / width
    for start in range(0, width, BLOCK):
        columns = start + column
        inside = columns < width
        scale = _factor(weight, columns, width, HAS_WEIGHT, ZERO_CENTERED)
        upstream = tl.load(dy + columns, mask=inside, other=0.0).to(tl.float32) * scale
        gradient = upstream - _hat(x, columns, inside, center, inverse) * along
        if LAYER:
            gradient -= average
        gradient *= inverse
        if HAS_DTOTAL:
            gradient += tl.load(dtotal + columns, mask=inside, other=0.0).to(tl.float32)
        tl.store(dx + row * width + columns, gradient.to(dx.dtype.element_ty), mask=inside)


@triton.jit
def _vectors_wide(
    dy,
    x,
    mean,
    rstd,
    dweight,
    dbias,
    rows,
    width,
    dy_stride,
    x_stride,
    LAYER: tl.constexpr,
    HAS_WEIGHT: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A share of the rows and BLOCK columns a program: `_backward`'s sums, for wide rows."""
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    weight_sum = tl.zeros((ROWS, BLOCK), tl.float32)
    bias_sum = tl.zeros((ROWS, BLOCK), tl.float32)
    program, programs = tl.program_id(0), tl.num_programs(0)
    for start in range(program * ROWS, rows, programs * ROWS):
        flat = (start + tl.arange(0, ROWS)).to(tl.int64)
        row, there = flat[:, None], flat < rows
        inside = there[:, None] & (column < width)[None, :]
        upstream = tl.load(dy + row * dy_stride + column[None, :], mask=inside, other=0.0)
        upstream = upstream.to(tl.float32)
        if HAS_BIAS:
            bias_sum += upstream
        if HAS_WEIGHT:
            inverse = tl.load(rstd + flat, mask=there, other=0.0)[:, None]
            center = tl.zeros((ROWS, 1), tl.float32)
            if LAYER:
                center = tl.load(mean + flat, mask=there, other=0.0)[:, None]
            weight_sum += upstream * _hat(
                x + row * x_stride, column[None, :], inside, center, inverse
            )
    share = program.to(tl.int64) * width + column
    if HAS_WEIGHT:
        tl.store(dweight + share, tl.sum(weight_sum, axis=0), mask=column < width)
    if HAS_BIAS:
        tl.store(dbias + share, tl.sum(bias_sum, axis=0), mask=column < width)


def launch_backward(
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
    """(dx, dweight, dbias) in the shapes and dtypes of x, weight and bias; fp32 [0] where None.

    `dy`, `dtotal` (the gradient of x + residual, or None) and `x`: fp32 or bf16 [rows, hidden];
    `weight`, `bias`: [hidden] or None; `mean` (of LayerNorm) and `rstd`: fp32 [rows].
    """
    rows, width = x.shape
    dx = torch.empty((rows, width), dtype=x.dtype, device=x.device)
    chosen = tile("norm.backward" if bias is None else "norm.backward_bias", width, x.device)
    per_processor = chosen.pop("PROGRAMS")
    programs = max(1, min(triton.cdiv(rows, chosen["ROWS"]), processors(x.device) * per_processor))
    dweight, dbias = (
        dx.new_empty((programs, width) if vector is not None else 0, dtype=torch.float32)
        for vector in (weight, bias)
    )
    statistics = (mean if layer else rstd, rstd)
    inputs = (dy, dtotal if dtotal is not None else dy, x, weight if weight is not None else x)
    strides = (dy.stride(0), dtotal.stride(0) if dtotal is not None else 0, x.stride(0))
    vectors = {"HAS_WEIGHT": weight is not None, "HAS_BIAS": bias is not None}
    flags = {"LAYER": layer, "HAS_DTOTAL": dtotal is not None, "ZERO_CENTERED": zero_centered}
    if width <= chosen["BLOCK"]:
        launch(
            _backward,
            (programs,),
            *inputs,
            *statistics,
            *(dx, dweight, dbias, rows, width),
            *strides,
            **flags,
            **vectors,
            **chosen,
        )
    else:
        for constant in ("ROWS", "RELOAD"):
            chosen.pop(constant)
        launch(
            _backward_wide,
            (rows,),
            *inputs,
            *statistics,
            *(dx, width),
            *strides,
            HAS_WEIGHT=weight is not None,
            **flags,
            **chosen,
        )
        if weight is not None or bias is not None:
            narrow = tile("norm.vectors_wide", width, x.device)
            launch(
                _vectors_wide,
                (programs, triton.cdiv(width, narrow["BLOCK"])),
                *(dy, x, *statistics, dweight, dbias, rows, width, dy.stride(0), x.stride(0)),
                LAYER=layer,
                **vectors,
                **narrow,
            )
    return dx, _total(dweight, weight), _total(dbias, bias)


def _total(partial: Tensor, vector: Tensor | None) -> Tensor:
    return partial if vector is None else partial.sum(dim=0).to(vector.dtype)
