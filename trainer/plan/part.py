"""A part of a step: what it must compute and move, and the least time for that."""

from dataclasses import dataclass

from kernels.bench.ceilings import Ceilings


@dataclass(frozen=True)
class Product:
    """A matrix product: [rows, inner] x [inner, columns]."""

    rows: int
    inner: int
    columns: int

    def __str__(self) -> str:
        """As M x N x K."""
        return f"{self.rows} x {self.columns} x {self.inner}"

    @property
    def work(self) -> int:
        """Floating-point operations."""
        return 2 * self.rows * self.inner * self.columns

    def traffic(self, size: int) -> int:
        """The bytes of all three matrices, of `size` bytes an element."""
        elements = self.rows * self.inner + self.inner * self.columns + self.rows * self.columns
        return elements * size


@dataclass(frozen=True)
class StepPart:
    """One operator of a step on one rank, as often as the step calls it; all counts a call."""

    name: str
    phase: str
    """forward, backward, recompute, loss, accumulation, clipping, optimizer, data or host."""
    shape: str
    """In words; of a product, M x N x K."""
    times: int
    """Calls a step."""
    flops: float = 0.0
    """Operations that the model's count holds (trainer.plan.size.flops_per_token)."""
    repeated: float = 0.0
    """Recomputed operations: not in the model's count."""
    traffic: float = 0.0
    """Bytes that must be read and written, with the operators fused as they are."""
    spare: float = 0.0
    """Those of the bytes that another fusion of the operators would not move."""
    mend: str = ""
    """That fusion, in words."""
    product: Product | None = None
    """What is multiplied, where the part is one matrix product."""

    def floor_seconds(self, ceilings: Ceilings) -> float:
        """The least time of all calls of a step."""
        return self.times * ceilings.seconds(self.traffic, self.flops + self.repeated)

    def spare_seconds(self, ceilings: Ceilings) -> float:
        """Seconds of `floor_seconds` that `mend` would save."""
        left = ceilings.seconds(self.traffic - self.spare, self.flops + self.repeated)
        return self.floor_seconds(ceilings) - self.times * left


@dataclass(frozen=True)
class Prediction:
    """The parts of one rank's step under ceilings, and what follows from them."""

    parts: tuple[StepPart, ...]
    ceilings: Ceilings
    tokens: int
    """Tokens that pass this rank's layers in a step."""
    peak: float | None
    """The peak that MFU is relative to, in FLOP/s; None: not known."""

    @property
    def flops(self) -> float:
        """This rank's share of the model's operations."""
        return sum(part.times * part.flops for part in self.parts)

    @property
    def repeated(self) -> float:
        """Operations of the step that the model's count leaves out."""
        return sum(part.times * part.repeated for part in self.parts)

    @property
    def seconds(self) -> float:
        """The sum of all floors: nothing runs beside anything else."""
        return sum(part.floor_seconds(self.ceilings) for part in self.parts)

    @property
    def spare_seconds(self) -> float:
        """Seconds that all `mend`s together would save."""
        return sum(part.spare_seconds(self.ceilings) for part in self.parts)

    def mfu(self, seconds: float) -> float | None:
        """The share of the peak that a step of so many seconds reaches."""
        return None if self.peak is None else self.flops / (seconds * self.peak)

    def candidates(self) -> list[StepPart]:
        """The parts with bytes to spare, the largest saving first."""
        found = [part for part in self.parts if part.spare]
        return sorted(found, key=lambda part: -part.spare_seconds(self.ceilings))
