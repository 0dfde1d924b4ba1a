"""What the GPU can do at best, and the least time that a case can take under that."""

from dataclasses import dataclass

import torch

from kernels.bench.case import BenchCase
from kernels.bench.measure import Call, Clock, measure

_COPIED_BYTES = {"cuda": 2**30, "cpu": 2**26}
_SIDE = {"cuda": 8192, "cpu": 256}


@dataclass(frozen=True)
class Ceilings:
    """Rates of the memory (bytes read + bytes written) and of the tensor cores in bf16."""

    bytes_per_second: float
    flops_per_second: float
    source: str

    def __str__(self) -> str:
        """In one line."""
        rates = self.bytes_per_second / 1e12, self.flops_per_second / 1e12
        return f"{rates[0]:.3g} TB/s, {rates[1]:.3g} TFLOP/s ({self.source})"

    def seconds(self, traffic: float, work: float) -> float:
        """The least time for so many bytes and operations; they may overlap fully."""
        return max(traffic / self.bytes_per_second, work / self.flops_per_second)

    def floor_seconds(self, case: BenchCase) -> float:
        """The least time that the case's traffic and work allow."""
        return self.seconds(case.traffic, case.work)

    def best_rate(self, case: BenchCase) -> float:
        """The ceiling of what the case is rated by: FLOP/s where it has work, else bytes/s."""
        return self.flops_per_second if case.work else self.bytes_per_second


H200 = Ceilings(
    bytes_per_second=4.3e12,
    flops_per_second=790e12,
    source="measured on one NVIDIA H200: device copy, and bf16 8192^3 product on random data "
    "(datasheet: 4.8 TB/s and 989 TFLOP/s)",
)
"""For floors on a machine without a GPU."""


def measure_ceilings(
    device: torch.device, clock: Clock, dtype: torch.dtype = torch.bfloat16
) -> Ceilings:
    """Copy one GiB, and multiply matrices of random numbers (zeros would clock higher).

    On a CPU less of both.
    """
    copied_bytes, side = _COPIED_BYTES[device.type], _SIDE[device.type]
    copied = measure(_copy(device, copied_bytes), clock)
    multiplied = measure(_multiply(device, dtype, side), clock, enough=0.5)
    name = {torch.bfloat16: "bf16", torch.float32: "fp32"}[dtype]
    return Ceilings(
        bytes_per_second=2 * copied_bytes / copied.median_seconds,
        flops_per_second=2 * side**3 / multiplied.median_seconds,
        source=f"measured in this run: copy of {copied_bytes / 2**30:g} GiB, and {name} {side}^3 "
        "product on random data",
    )


def _copy(device: torch.device, size: int) -> Call:
    source = torch.empty(size, dtype=torch.int8, device=device).random_()
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def _multiply(device: torch.device, dtype: torch.dtype, side: int) -> Call:
    left, right = (torch.randn(side, side, dtype=dtype, device=device) for _ in range(2))
    product = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=product)
