"""SwiGLU and GeGLU (Shazeer 2020) on the packed gate and up halves of a fused projection.

Memory-bound: forward reads both halves and writes one; backward reads both and the gradient of one
and writes two, recomputing the activation. Every byte is moved once.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from kernels.arguments import check, check_dtype, rows_of
from kernels.dispatch import use_triton
from kernels.language import tl, triton
from kernels.launch import launch
from kernels.tiles import tile

Activation = Literal["silu", "gelu", "gelu_tanh"]
ACTIVATIONS: tuple[Activation, ...] = ("silu", "gelu", "gelu_tanh")


def reference(gate_up: Tensor, activation: Activation = "silu") -> Tensor:
    """[..., 2 * ffn] -> [..., ffn] in PyTorch: in fp32 (fp64 for fp64), rounded once."""
    gate, up = gate_up.chunk(2, dim=-1)
    if gate_up.dtype == torch.bfloat16:
        gate, up = gate.float(), up.float()
    if activation == "silu":
        active = torch.nn.functional.silu(gate)
    else:
        approximate = "tanh" if activation == "gelu_tanh" else "none"
        active = torch.nn.functional.gelu(gate, approximate=approximate)
    if not (torch.is_grad_enabled() or torch.compiler.is_compiling()):
        product = active.mul_(up)  # the same numbers, without another tensor
    else:
        product = active * up
    return product if product.dtype == gate_up.dtype else product.to(gate_up.dtype)


@triton.jit
def _activate(gate, ACTIVATION: tl.constexpr):
    """(f(gate), f'(gate)); what isn't used is not computed."""
    if ACTIVATION == "silu":
        sigmoid = tl.sigmoid(gate)
        active = gate * sigmoid
        slope = sigmoid * (1.0 + gate * (1.0 - sigmoid))
    elif ACTIVATION == "gelu":
        below = 0.5 * (1.0 + tl.erf(gate * 0.7071067811865476))
        active = gate * below
        slope = below + gate * 0.3989422804014327 * tl.exp(-0.5 * gate * gate)
    else:
        # u = sqrt(2 / pi) (x + 0.044715 x^3), and (1 + tanh(u)) / 2 = sigmoid(2 u); beyond 20 that
        # is exactly 0 or 1, and the cube of what fp32 holds would not be finite.
        bounded = tl.minimum(tl.maximum(gate, -20.0), 20.0)
        inner = 1.5957691216057308 * bounded * (1.0 + 0.044715 * bounded * bounded)
        below = tl.sigmoid(inner)
        active = gate * below
        inner_slope = 1.5957691216057308 * (1.0 + 0.134145 * bounded * bounded)
        slope = below + gate * below * (1.0 - below) * inner_slope
    return active, slope


@triton.jit
def _place(rows, ffn, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """This program's rows, columns, and which of them there are."""
    blocks = tl.cdiv(ffn, BLOCK)
    program = tl.program_id(0)
    row = ((program // blocks) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    column = ((program % blocks) * BLOCK + tl.arange(0, BLOCK))[None, :]
    return row, column, (row < rows) & (column < ffn)


@triton.jit
def _forward(
    gate_up,
    y,
    rows,
    ffn,
    stride,
    ACTIVATION: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """ROWS x BLOCK elements a program."""
    row, column, inside = _place(rows, ffn, ROWS, BLOCK)
    source = gate_up + row * stride + column
    gate = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(source + ffn, mask=inside, other=0.0).to(tl.float32)
    active, _ = _activate(gate, ACTIVATION)
    tl.store(y + row * ffn + column, (active * up).to(y.dtype.element_ty), mask=inside)


@triton.jit
def _backward(
    dy,
    gate_up,
    dgate_up,
    rows,
    ffn,
    dy_stride,
    stride,
    ACTIVATION: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """ROWS x BLOCK elements of both halves a program."""
    row, column, inside = _place(rows, ffn, ROWS, BLOCK)
    source = gate_up + row * stride + column
    gate = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(source + ffn, mask=inside, other=0.0).to(tl.float32)
    upstream = tl.load(dy + row * dy_stride + column, mask=inside, other=0.0).to(tl.float32)
    active, slope = _activate(gate, ACTIVATION)
    target = dgate_up + row * (2 * ffn) + column
    tl.store(target, (upstream * up * slope).to(dgate_up.dtype.element_ty), mask=inside)
    tl.store(target + ffn, (upstream * active).to(dgate_up.dtype.element_ty), mask=inside)


def _launch_forward(gate_up: Tensor, activation: str) -> Tensor:
    """[rows, 2 * ffn] -> [rows, ffn]."""
    rows, ffn = gate_up.shape[0], gate_up.shape[1] // 2
    y = torch.empty((rows, ffn), dtype=gate_up.dtype, device=gate_up.device)
    chosen = tile("glu.forward", ffn, gate_up.device)
    launch(
        _forward,
        _grid(rows, ffn, chosen),
        *(gate_up, y, rows, ffn, gate_up.stride(0)),
        ACTIVATION=activation,
        **chosen,
    )
    return y


def _launch_backward(dy: Tensor, gate_up: Tensor, activation: str) -> Tensor:
    """[rows, ffn] and [rows, 2 * ffn] -> [rows, 2 * ffn]."""
    rows, ffn = gate_up.shape[0], gate_up.shape[1] // 2
    dgate_up = torch.empty((rows, 2 * ffn), dtype=gate_up.dtype, device=gate_up.device)
    chosen = tile("glu.backward", ffn, gate_up.device)
    launch(
        _backward,
        _grid(rows, ffn, chosen),
        *(dy, gate_up, dgate_up, rows, ffn, dy.stride(0), gate_up.stride(0)),
        ACTIVATION=activation,
        **chosen,
    )
    return dgate_up


def _grid(rows: int, ffn: int, chosen: dict[str, int]) -> tuple[int]:
    return (triton.cdiv(rows, chosen["ROWS"]) * triton.cdiv(ffn, chosen["BLOCK"]),)


@torch.library.custom_op("lyceum::glu", mutates_args=())
def _glu(gate_up: Tensor, activation: str) -> Tensor:
    return _launch_forward(gate_up, activation)


@_glu.register_fake
def _(gate_up: Tensor, activation: str) -> Tensor:
    return gate_up.new_empty((gate_up.shape[0], gate_up.shape[1] // 2))


@torch.library.custom_op("lyceum::glu_backward", mutates_args=())
def _glu_backward(dy: Tensor, gate_up: Tensor, activation: str) -> Tensor:
    return _launch_backward(dy, gate_up, activation)


@_glu_backward.register_fake
def _(dy: Tensor, gate_up: Tensor, activation: str) -> Tensor:
    return gate_up.new_empty(gate_up.shape)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    gate_up, ctx.activation = inputs
    ctx.save_for_backward(gate_up)


def _differentiate(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
    (gate_up,) = ctx.saved_tensors
    return _glu_backward(rows_of(dy), gate_up, ctx.activation), None


_glu.register_autograd(_differentiate, setup_context=_setup)


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up.

    `gate_up`: [..., 2 * ffn], fp32 or bf16, the gate in the first half and up in the second, as
    megatron-core's fused column-parallel projection gives them, any strides. Returns [..., ffn] in
    the same dtype, computed in fp32 and rounded once. Raises ValueError for another dtype or an odd
    last dimension.
    """
    return _gated(gate_up, "silu")


def geglu(gate_up: Tensor, approximate: bool = True) -> Tensor:
    """gelu(gate) * up; `approximate` is the tanh form (Hendrycks & Gimpel 2016), else by erf.

    `gate_up`: [..., 2 * ffn], and the result, [..., ffn], as in `swiglu`.
    """
    return _gated(gate_up, "gelu_tanh" if approximate else "gelu")


def _gated(gate_up: Tensor, activation: Activation) -> Tensor:
    check_dtype("gate_up", gate_up)
    check(
        gate_up.dim() > 0 and gate_up.shape[-1] > 0 and gate_up.shape[-1] % 2 == 0,
        "gate_up: shape {} should end in 2 * ffn, a gate for every up",
        gate_up.shape,
    )
    if not use_triton(gate_up):
        return reference(gate_up, activation)
    y: Tensor = _glu(rows_of(gate_up), activation)
    return y.view(*gate_up.shape[:-1], gate_up.shape[-1] // 2)
