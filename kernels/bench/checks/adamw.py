"""AdamW and the gradient norm, over many tensors at once, beside fp64."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from kernels.adamw import Scalars, adamw_step, reference
from kernels.bench.checks.case import DTYPES, CheckCase, Held
from kernels.bench.tolerance import tolerance
from kernels.grad_norm import grad_norm
from kernels.tensor_list import CHUNK

ODD: tuple[tuple[int, ...], ...] = ((1,), (3, 5), (), (127,), (CHUNK + 1,))
PRODUCTION: tuple[tuple[int, ...], ...] = ((2048,), (3072, 2048), (2048,), (50_304, 128))
OPTIONS: dict[str, Any] = {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
STEP = 3

Lists = dict[str, Any]
"""adamw_step's lists of tensors, by its names."""


def check_cases(device: torch.device, small: bool) -> Iterator[CheckCase]:
    """Every combination of dtypes that training has."""
    for name, sizes in {"odd": ODD, **({} if small else {"production": PRODUCTION})}.items():
        size = f"{len(sizes)} {name} tensors"
        for dtype in DTYPES:
            yield CheckCase("grad_norm", size, dtype, partial(_hold_norm, sizes, dtype, device))
        for dtype, gradient in (
            (torch.float32, torch.float32),
            (torch.bfloat16, torch.float32),
            (torch.bfloat16, torch.bfloat16),
        ):
            gradients = str(gradient).removeprefix("torch.")
            run = partial(_hold_step, sizes, dtype, gradient, device)
            yield CheckCase(f"adamw with {gradients} gradients", size, dtype, run)


def _hold_norm(
    sizes: tuple[tuple[int, ...], ...], dtype: torch.dtype, device: torch.device
) -> Iterator[Held]:
    """Each chunk is summed in fp32; the chunks' sums in fp64."""
    gradients = [torch.randn(size, device=device).to(dtype) for size in sizes]
    right = torch.stack([x.double().square().sum() for x in gradients]).sum().sqrt()
    yield Held("norm", grad_norm(gradients), right, tolerance(torch.float32, terms=CHUNK))


def _hold_step(
    sizes: tuple[tuple[int, ...], ...],
    dtype: torch.dtype,
    gradient: torch.dtype,
    device: torch.device,
) -> Iterator[Held]:
    """All that is written, within ten units in fp32's last place: one for each operation.

    A unit of the operands, which are of order one: the result may be a small difference.
    """
    weights = [torch.randn(size, device=device) for size in sizes]
    lists: Lists = {
        "parameters": [w.to(dtype) for w in weights],
        "gradients": [torch.randn_like(w).to(gradient) for w in weights],
        "exp_avg": [torch.randn_like(w) * 0.1 for w in weights],
        "exp_avg_sq": [torch.rand_like(w) for w in weights],
    }
    if dtype != torch.float32:
        lists["masters"] = weights
    right = {name: [x.double() for x in tensors] for name, tensors in lists.items()}
    scalars = Scalars.of(**OPTIONS, step=STEP)
    moments = right["exp_avg"], right["exp_avg_sq"]
    reference(
        *(right["parameters"], right["gradients"], *moments),
        *(right.get("masters"), scalars, None, None),
    )
    adamw_step(**lists, **OPTIONS, step=STEP)
    for name in lists.keys() - {"gradients"}:
        for index, (one, other) in enumerate(zip(lists[name], right[name], strict=True)):
            rounding = tolerance(one.dtype) if one.dtype == torch.bfloat16 else 0.0
            allowed = 5 * torch.finfo(torch.float32).eps + rounding
            yield Held(f"{name}[{index}]", one, other, allowed, scale=1.0)
