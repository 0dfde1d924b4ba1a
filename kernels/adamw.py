"""AdamW (Loshchilov & Hutter 2019, algorithm 2) over many tensors in one launch.

Memory-bound: gradient, master weight and both moments are read once; weight and moments are written
once: 28 bytes a parameter in fp32; 30 with fp32 masters, whose bf16 copy is written in the same
pass. Clipping costs no pass of its own: the gradient is scaled as it is read. A step is skipped by
a flag on the device, which the host need not read.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.arguments import check, check_device, check_dtype
from kernels.dispatch import use_triton
from kernels.grad_norm import TYPES
from kernels.language import tl, triton
from kernels.launch import launch
from kernels.tensor_list import CHUNK, Chunks, TensorPlans, addresses, locate
from kernels.tiles import tile


def reference(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    exp_avg: Sequence[Tensor],
    exp_avg_sq: Sequence[Tensor],
    masters: Sequence[Tensor] | None,
    scalars: "Scalars",
    clip_coefficient: Tensor | None,
    skip: Tensor | None,
) -> None:
    """`adamw_step` in PyTorch, bitwise as torch.optim.AdamW; synchronises with the device.

    The i-th tensors of all lists have one shape; `clip_coefficient` and `skip`: fp32 [] or None.
    """
    if skip is not None and skip.item() != 0:
        return
    factor = 1.0 if clip_coefficient is None else clip_coefficient.item()
    for index, gradient in enumerate(gradients):
        average, square = exp_avg[index], exp_avg_sq[index]
        weight = (parameters if masters is None else masters)[index]
        wide = gradient.to(average.dtype)
        if factor != 1.0:
            wide = wide * factor
        weight.mul_(scalars.keep)
        average.lerp_(wide, scalars.gradient_share)
        square.mul_(scalars.square_keep).addcmul_(wide, wide, value=scalars.square_share)
        root = square.sqrt().div_(scalars.root_correction).add_(scalars.eps)
        weight.addcdiv_(average, root, value=-scalars.step_size)
        if masters is not None:
            parameters[index].copy_(weight)


class Scalars(NamedTuple):
    """The numbers of one update in double precision, in the order that the kernel takes."""

    keep: float
    gradient_share: float
    square_keep: float
    square_share: float
    step_size: float
    root_correction: float
    eps: float

    @classmethod
    def of(
        cls, lr: float, betas: tuple[float, float], eps: float, weight_decay: float, step: float
    ) -> "Scalars":
        """From the paper's hyperparameters; `step`: number of the update, from 1."""
        return cls(
            keep=1.0 - lr * weight_decay,
            gradient_share=1.0 - betas[0],
            square_keep=betas[1],
            square_share=1.0 - betas[1],
            step_size=lr / (1.0 - betas[0] ** step),
            root_correction=(1.0 - betas[1] ** step) ** 0.5,
            eps=eps,
        )


@triton.jit
def _update(
    parameters,
    gradients,
    averages,
    squares,
    masters,
    index,
    inside,
    factor,
    keep,
    gradient_share,
    square_keep,
    square_share,
    step_size,
    root_correction,
    eps,
    HAS_MASTERS: tl.constexpr,
):
    gradient = tl.load(gradients + index, mask=inside).to(tl.float32) * factor
    average = tl.load(averages + index, mask=inside)
    square = tl.load(squares + index, mask=inside)
    weight = tl.load(masters + index, mask=inside) * keep
    average += (gradient - average) * gradient_share
    square = square * square_keep + gradient * gradient * square_share
    weight -= step_size * (average / (tl.sqrt(square) / root_correction + eps))
    tl.store(averages + index, average, mask=inside)
    tl.store(squares + index, square, mask=inside)
    tl.store(masters + index, weight, mask=inside)
    if HAS_MASTERS:
        tl.store(parameters + index, weight.to(parameters.dtype.element_ty), mask=inside)


@triton.jit
def _adamw(
    owner,
    first,
    sizes,
    table,
    clip,
    skip,
    corrections,
    tensors,
    keep,
    gradient_share,
    square_keep,
    square_share,
    step_size,
    root_correction,
    eps,
    PARAMETER: tl.constexpr,
    GRADIENT: tl.constexpr,
    HAS_MASTERS: tl.constexpr,
    HAS_CLIP: tl.constexpr,
    HAS_SKIP: tl.constexpr,
    HAS_CORRECTIONS: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One chunk a program. The table's rows: parameters, gradients, both moments, masters."""
    tensor, start, left = locate(owner, first, sizes, CHUNK)
    if HAS_SKIP:
        left = tl.where(tl.load(skip) != 0, 0, left)
    factor = 1.0
    if HAS_CLIP:
        factor = tl.load(clip)
    if HAS_CORRECTIONS:
        step_size = tl.load(corrections)
        root_correction = tl.load(corrections + 1)
    table += tensor
    parameter = tl.load(table)
    gradient = tl.load(table + tensors)
    average = tl.load(table + 2 * tensors)
    square = tl.load(table + 3 * tensors)
    master = parameter
    if HAS_MASTERS:
        master = tl.load(table + 4 * tensors)
    parameters = parameter.to(tl.pointer_type(PARAMETER)) + start
    gradients = gradient.to(tl.pointer_type(GRADIENT)) + start
    averages = average.to(tl.pointer_type(tl.float32)) + start
    squares = square.to(tl.pointer_type(tl.float32)) + start
    masters = master.to(tl.pointer_type(tl.float32)) + start
    column = tl.arange(0, BLOCK)
    # A mask splits loads into single elements, so that whole chunks go without.
    if (left >= CHUNK) & ((parameter | gradient | average | square | master) % 16 == 0):
        parameters = tl.multiple_of(parameters, 16)
        gradients = tl.multiple_of(gradients, 16)
        averages = tl.multiple_of(averages, 16)
        squares = tl.multiple_of(squares, 16)
        masters = tl.multiple_of(masters, 16)
        for block in range(0, CHUNK, BLOCK):
            _update(
                *(parameters, gradients, averages, squares, masters),
                *(block + column, None, factor),
                *(keep, gradient_share, square_keep, square_share),
                *(step_size, root_correction, eps, HAS_MASTERS),
            )
    else:
        for block in range(0, tl.minimum(left, CHUNK).to(tl.int32), BLOCK):
            index = block + column
            _update(
                *(parameters, gradients, averages, squares, masters),
                *(index, index < left, factor),
                *(keep, gradient_share, square_keep, square_share),
                *(step_size, root_correction, eps, HAS_MASTERS),
            )


def _launch(
    types: tuple[torch.dtype, torch.dtype],
    table: Tensor,
    chunks: Chunks,
    scalars: Sequence[float],
    clip_coefficient: Tensor | None,
    skip: Tensor | None,
    corrections: Tensor | None,
) -> None:
    """`types`: dtypes of parameters and gradients; `table`: addresses, int64 [4 or 5, tensors].

    Rows: parameters, gradients, exp_avg, exp_avg_sq and, if any, masters. `scalars`: as `Scalars`;
    `clip_coefficient`, `skip`: fp32 []; `corrections`: fp32 [2], from `_corrections`.
    """
    launch(
        _adamw,
        (chunks.owner.numel(),),
        *(chunks.owner, chunks.first, chunks.sizes, table),
        clip_coefficient if clip_coefficient is not None else table,
        skip if skip is not None else table,
        corrections if corrections is not None else table,
        table.shape[1],
        *scalars,
        PARAMETER=TYPES[types[0]],
        GRADIENT=TYPES[types[1]],
        HAS_MASTERS=table.shape[0] == 5,
        HAS_CLIP=clip_coefficient is not None,
        HAS_SKIP=skip is not None,
        HAS_CORRECTIONS=corrections is not None,
        CHUNK=CHUNK,
        **tile("adamw.adamw", CHUNK, table.device),
    )


_MUTATED = ("parameters", "exp_avg", "exp_avg_sq", "masters")


@torch.library.custom_op("lyceum::adamw", mutates_args=_MUTATED)
def _adamw_op(
    parameters: list[Tensor],
    gradients: list[Tensor],
    exp_avg: list[Tensor],
    exp_avg_sq: list[Tensor],
    masters: list[Tensor],
    owner: Tensor,
    first: Tensor,
    sizes: Tensor,
    scalars: list[float],
    clip_coefficient: Tensor | None,
    skip: Tensor | None,
    corrections: Tensor | None,
) -> None:
    # Addresses are read only here: a tracer may have replaced the tensors by copies.
    lists = (parameters, gradients, exp_avg, exp_avg_sq, *([masters] if masters else []))
    types = parameters[0].dtype, gradients[0].dtype
    on_device = clip_coefficient, skip, corrections
    _launch(types, addresses(lists), Chunks(owner, first, sizes), scalars, *on_device)


@_adamw_op.register_fake
def _(
    parameters: list[Tensor],
    gradients: list[Tensor],
    exp_avg: list[Tensor],
    exp_avg_sq: list[Tensor],
    masters: list[Tensor],
    owner: Tensor,
    first: Tensor,
    sizes: Tensor,
    scalars: list[float],
    clip_coefficient: Tensor | None,
    skip: Tensor | None,
    corrections: Tensor | None,
) -> None:
    return None


@torch.no_grad()
def adamw_step(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    exp_avg: Sequence[Tensor],
    exp_avg_sq: Sequence[Tensor],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    step: int | Tensor,
    masters: Sequence[Tensor] | None = None,
    clip_coefficient: Tensor | None = None,
    skip: Tensor | None = None,
    plans: TensorPlans | None = None,
) -> None:
    """Apply one update of AdamW to all tensors of a parameter group, in place.

    Lists of equal length, on one device; the i-th tensors have one shape. `parameters`: fp32, or
    with `masters` (fp32 master weights) fp32 or bf16 copies of these; `gradients`: fp32 or bf16;
    `exp_avg`, `exp_avg_sq`: fp32. Tensors that are written must be contiguous, or dense with the
    parameter's strides; any alignment is allowed.

    `step`: the number of this update, from 1, for the bias corrections; as a 0-dim fp64 tensor on
    the device, the host need not know which updates were skipped. `clip_coefficient`: 0-dim fp32,
    multiplies the gradients. `skip`: 0-dim fp32; where it is not 0, nothing is written, and the
    next update has the same `step`. `plans`: one `TensorPlans()` for all calls of a caller, a cache
    (None: nothing is cached).

    Raises ValueError for a shape, dtype, device or stride other than these.
    """
    counted = step if isinstance(step, Tensor) else None
    if not isinstance(step, Tensor):
        check(step >= 1, f"step: {step} is below 1, the first update's")
    lists = {
        **{"parameters": parameters, "gradients": gradients},
        **{"exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq},
        **({"masters": masters} if masters else {}),
    }
    flags = {"clip_coefficient": clip_coefficient, "skip": skip, "step": counted}
    for name, flag in flags.items():
        if flag is not None:
            check_dtype(name, flag, (torch.float64 if flag is counted else torch.float32,))
            check(flag.dim() == 0, f"{name}: shape {list(flag.shape)}, not a 0-dim tensor")
            if parameters:
                check_device(name, flag, "parameters", parameters[0])
    plan = (plans or TensorPlans()).of(lists, lambda: _check(**lists))
    if not parameters:
        return
    if not use_triton(parameters[0]):
        scalars = Scalars.of(lr, betas, eps, weight_decay, _reference_step(step))
        reference(
            *(parameters, gradients, exp_avg, exp_avg_sq, masters or None),
            *(scalars, clip_coefficient, skip),
        )
        return
    scalars = Scalars.of(lr, betas, eps, weight_decay, 1.0 if counted is not None else float(step))
    corrections = None if counted is None else _corrections(lr, betas, counted)
    lists["gradients"] = [_like(g, p) for g, p in zip(gradients, parameters, strict=True)]
    for indices, chunks in plan.buckets:
        bucket = [[tensors[i] for i in indices] for tensors in lists.values()]
        _adamw_op(
            *bucket[:4],
            bucket[4] if masters else [],
            *(chunks.owner, chunks.first, chunks.sizes),
            *(list(scalars), clip_coefficient, skip, corrections),
        )


def _reference_step(step: int | Tensor) -> float:
    """The update's number as a float, for `reference`; synchronises where it is a tensor."""
    return float(step)


def _corrections(lr: float, betas: tuple[float, float], step: Tensor) -> Tensor:
    """(step_size, root_correction) as in `Scalars`, fp32 [2]; `step`: fp64 [] on the device."""
    return torch.stack((lr / (1.0 - betas[0] ** step), (1.0 - betas[1] ** step).sqrt())).float()


def _like(gradient: Tensor, parameter: Tensor) -> Tensor:
    """The gradient with the parameter's strides; copied only if its own differ."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter, dtype=gradient.dtype).copy_(gradient)


def _check(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    exp_avg: Sequence[Tensor],
    exp_avg_sq: Sequence[Tensor],
    masters: Sequence[Tensor] | None = None,
) -> None:
    fp32 = (torch.float32,)
    named = {"exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq, "masters": masters or ()}
    for index, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
        if masters:
            check_dtype(f"parameters[{index}]", parameter)
        else:
            check_dtype(f"parameters[{index}] without masters", parameter, fp32)
        check_dtype(f"gradients[{index}]", gradient)
        check(_is_dense(parameter), f"parameters[{index}]: is neither contiguous nor dense")
    for name, tensors in named.items():
        for index, (tensor, parameter) in enumerate(zip(tensors, parameters, strict=False)):
            check_dtype(f"{name}[{index}]", tensor, fp32)
            same = tensor.stride() == parameter.stride()
            check(
                same or (tensor.is_contiguous() and parameter.is_contiguous()),
                f"{name}[{index}]: strides {tensor.stride()} are not the parameter's",
            )


def _is_dense(x: Tensor) -> bool:
    """Whether the elements fill one contiguous range of memory, without overlap."""
    if x.is_contiguous():
        return True
    expected = 1
    for stride, size in sorted(zip(x.stride(), x.shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True
