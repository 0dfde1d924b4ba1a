"""The rows of what runs inside compiled layers: by our operators' names and by products' shapes.

Never run on a GPU; the names are those that torch.compile gives to what it calls.
"""

from collections.abc import Sequence

from trainer.bench.step.trace import Span
from trainer.plan.part import Part

PRODUCTS = ("aten::mm", "aten::addmm")
REST = "compiled layers, other"

_OPERATORS = {
    "lyceum::rope": "rope",
    "lyceum::glu": "swiglu",
    "lyceum::attention": "attention",
}
_REGIONS = ("CompiledFunction", "Torch-Compiled Region", "## Call CompiledFxGraph")

Operands = tuple[tuple[int, ...], ...]


class Shapes:
    """The predicted products by the shapes of their operands, forward and backward."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._names: dict[tuple[bool, Operands], str] = {}
        for part in parts:
            if part.product is not None and part.phase in ("forward", "backward"):
                rows, inner, columns = part.product.rows, part.product.inner, part.product.columns
                key = part.phase == "backward", ((rows, inner), (inner, columns))
                self._names.setdefault(key, part.name)

    def row(self, inner: Sequence[Span], backward: bool) -> str | None:
        """Of the calls round a span, from the innermost: its row, if a compiled layer made them."""
        if not any(caller.name.startswith(_REGIONS) for caller in inner):
            return None
        for caller in inner:
            if caller.name in PRODUCTS and caller.shapes:
                first = 0 if caller.name == "aten::mm" else 1
                operands = tuple(tuple(shape) for shape in caller.shapes[first : first + 2])
                return self._names.get((backward, operands), REST)
            for prefix, name in _OPERATORS.items():
                if caller.name.startswith(prefix):
                    return f"{name} {'backward' if backward else 'forward'}"
        return REST
