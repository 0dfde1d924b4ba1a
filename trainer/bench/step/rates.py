"""The ceilings that a step is predicted under: a device's own, or an H200's where none is there."""

from dataclasses import replace

import torch

from kernels.bench.ceilings import H200, Ceilings, measure_ceilings
from kernels.bench.measure import Clock, clock_of, measure
from trainer.plan.devices import named_peak, peak_flops
from trainer.plan.part import StepPart
from trainer.recipe import Recipe

_H200_FP32 = 67e12
"""FLOP/s outside the tensor cores, from the data sheet: fp32 products may not use them."""


def dtype_of(recipe: Recipe) -> torch.dtype:
    """The type of weights and activations."""
    return torch.bfloat16 if recipe.precision == "bf16" else torch.float32


def ceilings_of(recipe: Recipe, device: torch.device | None) -> Ceilings:
    """Measured on the device in the recipe's precision; without one, what an H200 reaches."""
    if device is None:
        if recipe.precision == "bf16":
            return H200
        source = f"{H200.source}; fp32 products: datasheet, 67 TFLOP/s"
        return replace(H200, flops_per_second=_H200_FP32, source=source)
    return measure_ceilings(device, clock_of(device), dtype_of(recipe))


def raised(ceilings: Ceilings, parts: tuple[StepPart, ...], alone: dict[str, float]) -> Ceilings:
    """The ceilings, with the rate of the step's fastest product where that is above the square's.

    `alone`: as `measure_shapes` gives it.
    """
    rates = {
        part.name: part.times * part.product.work / alone[part.name]
        for part in parts
        if part.product is not None and part.name in alone
    }
    best = max(rates, key=lambda name: rates[name], default=None)
    if best is None or rates[best] <= ceilings.flops_per_second:
        return ceilings
    source = f"{ceilings.source}; {best} by itself was faster, and counts"
    return replace(ceilings, flops_per_second=rates[best], source=source)


def peak_of(device: torch.device | None) -> float | None:
    """What MFU is a share of: the bf16 peak from the data sheet; None: not known."""
    return named_peak("H200") if device is None else peak_flops(device)


def measure_shapes(
    parts: tuple[StepPart, ...], device: torch.device, dtype: torch.dtype
) -> dict[str, float]:
    """Seconds a step that each matrix product takes alone, by the name of its part.

    Every distinct shape is timed once, as the layer calls it: what is transposed is so here too.
    """
    clock = clock_of(device)
    known: dict[tuple[str, str], float] = {}
    found = {}
    for part in parts:
        if part.product is None:
            continue
        way = next(w for w in _OPERANDS if part.name.removesuffix(" again").endswith(w))
        key = way, part.shape
        if key not in known:
            known[key] = _alone(part, way, device, dtype, clock)
        found[part.name] = part.times * known[key]
    return found


_OPERANDS = {
    "forward": (False, True),
    "input gradient": (False, False),
    "weight gradient": (True, False),
}
"""Which of the two matrices lie transposed in memory."""


def _alone(
    part: StepPart, way: str, device: torch.device, dtype: torch.dtype, clock: Clock
) -> float:
    assert part.product is not None
    rows, inner, columns = part.product.rows, part.product.inner, part.product.columns
    left, right = (
        torch.randn(*(shape[::-1] if transposed else shape), dtype=dtype, device=device)
        for shape, transposed in zip(((rows, inner), (inner, columns)), _OPERANDS[way], strict=True)
    )
    first, second = _OPERANDS[way]
    left, right = left.t() if first else left, right.t() if second else right
    product = torch.empty(rows, columns, dtype=dtype, device=device)
    enough = 0.2 if device.type == "cuda" else 0.02
    call = measure(lambda: torch.mm(left, right, out=product), clock, enough / 4, enough)
    return call.median_seconds
