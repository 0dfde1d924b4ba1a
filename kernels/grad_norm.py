"""The L2 norm over all gradients, and the factor that clips by it (Pascanu et al. 2013, sec. 3.2).

Memory-bound: every gradient is read once. A chunk's squares are summed in fp32, the chunks' sums in
fp64, each in a fixed order: no atomics, so that a resumed run sees the same norm. No device sync.
Infinities and NaN anywhere make the norm infinite or NaN, and so do elements beyond 1.8e19, whose
squares exceed fp32.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from kernels.arguments import check, check_dtype
from kernels.dispatch import use_triton
from kernels.language import tl, triton
from kernels.launch import launch
from kernels.tensor_list import CHUNK, Chunks, TensorPlans, addresses, locate
from kernels.tiles import tile

TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16}


def reference(gradients: Sequence[Tensor]) -> Tensor:
    """`grad_square_sum` in PyTorch: fp64 [], of tensors of any shape and floating dtype."""
    narrow = [x for x in gradients if x.dtype != torch.float64]
    norms = [torch.linalg.vector_norm(x) for x in gradients if x.dtype == torch.float64]
    if narrow:
        norms += torch._foreach_norm(narrow, 2, dtype=torch.float32)
    return torch.stack([norm.double() for norm in norms]).square().sum()


@triton.jit
def _square_sum(
    owner,
    first,
    sizes,
    table,
    partial,
    TYPE: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One chunk a program: the sum of its squares."""
    tensor, start, left = locate(owner, first, sizes, CHUNK)
    address = tl.load(table + tensor)
    values = address.to(tl.pointer_type(TYPE)) + start
    column = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    # A mask splits loads into single elements, so that whole chunks go without.
    if (left >= CHUNK) & (address % 16 == 0):
        values = tl.multiple_of(values, 16)
        for block in range(0, CHUNK, BLOCK):
            value = tl.load(values + block + column).to(tl.float32)
            total += value * value
    else:
        for block in range(0, tl.minimum(left, CHUNK).to(tl.int32), BLOCK):
            index = block + column
            value = tl.load(values + index, mask=index < left, other=0.0).to(tl.float32)
            total += value * value
    tl.store(partial + tl.program_id(0), tl.sum(total, axis=0))


def _launch(gradients: Sequence[Tensor], table: Tensor, chunks: Chunks) -> Tensor:
    """The chunks' sums, fp32 [chunks]; the gradients have one dtype."""
    count = chunks.owner.numel()
    partial = torch.empty(count, dtype=torch.float32, device=chunks.owner.device)
    launch(
        _square_sum,
        (count,),
        *(chunks.owner, chunks.first, chunks.sizes, table, partial),
        TYPE=TYPES[gradients[0].dtype],
        CHUNK=CHUNK,
        **tile("grad_norm.square_sum", CHUNK, chunks.owner.device),
    )
    return partial


@torch.library.custom_op("lyceum::grad_square_sums", mutates_args=())
def _square_sums(gradients: list[Tensor], owner: Tensor, first: Tensor, sizes: Tensor) -> Tensor:
    return _launch(gradients, addresses([gradients])[0], Chunks(owner, first, sizes))


@_square_sums.register_fake
def _(gradients: list[Tensor], owner: Tensor, first: Tensor, sizes: Tensor) -> Tensor:
    return owner.new_empty(owner.shape, dtype=torch.float32)


@torch.no_grad()
def grad_square_sum(gradients: Sequence[Tensor], *, plans: TensorPlans | None = None) -> Tensor:
    """The sum of all elements' squares: 0-dim fp64, to be added to those of other ranks.

    `gradients`: fp32 or bf16, any shapes and layouts, on one device; at least one. `plans`: one
    `TensorPlans()` for all calls of a caller, a cache (None: nothing is cached). Raises ValueError
    for an empty list, another dtype or mixed devices.
    """
    check(len(gradients) > 0, "gradients: there are none")
    plan = (plans or TensorPlans()).of({"gradients": gradients}, lambda: _check(gradients))
    if not use_triton(gradients[0]):
        return reference(gradients)
    partials = []
    for indices, chunks in plan.buckets:
        dense = [gradients[i].contiguous() for i in indices]
        partials.append(_square_sums(dense, chunks.owner, chunks.first, chunks.sizes))
    return torch.cat(partials).sum(dtype=torch.float64)


def grad_norm(gradients: Sequence[Tensor], *, plans: TensorPlans | None = None) -> Tensor:
    """The L2 norm over all elements of all gradients: 0-dim fp32, on their device.

    Arguments and errors as in `grad_square_sum`.
    """
    return grad_square_sum(gradients, plans=plans).sqrt().float()


def clip_coefficient(norm: Tensor, clip: float) -> Tensor:
    """The factor that scales gradients of norm `norm` (0-dim) to at most `clip`: 0-dim fp32.

    min(1, clip / (norm + 1e-6)), as in torch.nn.utils.clip_grad_norm_; 1 where `clip` is 0. Raises
    ValueError for a negative `clip`.
    """
    check(clip >= 0, f"clip: {clip} is negative; use 0 for no clipping")
    norm = norm.float()
    if clip == 0:
        return torch.ones_like(norm)
    return (clip / (norm + 1e-6)).clamp(max=1.0)


def _check(gradients: Sequence[Tensor]) -> None:
    for index, gradient in enumerate(gradients):
        check_dtype(f"gradients[{index}]", gradient)
