"""How far the numbers of a GGUF file are from those of the checkpoint that it was made of."""

import re
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table
from torch import Tensor


@dataclass
class _Sums:
    tensors: set[str] = field(default_factory=set)
    squares: float = 0.0
    squared_errors: float = 0.0
    largest: float = 0.0
    largest_error: float = 0.0


class Distances:
    """The errors of rounding by the kind of a tensor, as attn_q or token_embd."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Sums] = {}

    def add(self, name: str, exact: Tensor, stored: Tensor) -> None:
        """Count rows of the tensor `name`, both fp32."""
        sums = self._kinds.setdefault(re.sub(r"blk\.\d+\.|\.weight", "", name), _Sums())
        error = stored - exact
        sums.tensors.add(name)
        sums.squares += float(exact.double().square().sum())
        sums.squared_errors += float(error.double().square().sum())
        sums.largest = max(sums.largest, float(exact.abs().max()))
        sums.largest_error = max(sums.largest_error, float(error.abs().max()))

    def relative(self) -> dict[str, tuple[float, float]]:
        """By kind: the root mean square of the errors by that of the weights, and the largest error
        by the largest weight.
        """
        return {
            kind: (
                (sums.squared_errors / sums.squares) ** 0.5 if sums.squares else 0.0,
                sums.largest_error / sums.largest if sums.largest else 0.0,
            )
            for kind, sums in self._kinds.items()
        }

    def show(self) -> None:
        """Print a table."""
        table = Table(title="distance to the checkpoint (vectors: none)", title_justify="left")
        table.add_column("matrices")
        for column in ("number", "RMS error / RMS", "largest error / largest"):
            table.add_column(column, justify="right")
        for kind, (rms, largest) in self.relative().items():
            number = len(self._kinds[kind].tensors)
            table.add_row(kind, f"{number}", f"{rms:.2e}", f"{largest:.2e}")
        Console().print(table)
