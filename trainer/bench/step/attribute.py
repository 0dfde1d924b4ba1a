"""Whose time it was: every span of the device, by the row of the table that it belongs to.

On a GPU the spans are kernels and copies, found by the host's call that launched them; on a CPU
they are the operators, each with its own time. What has no place is a row too.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from trainer.bench.step.ranges import PREFIX, WINDOW
from trainer.bench.step.trace import NODE, Span, Trace, union_seconds
from trainer.plan.part import StepPart

PRODUCTS = ("aten::mm", "aten::addmm")
REST = "compiled layers, other"

_COMPILED = {
    "lyceum::rope": "rope",
    "lyceum::attention": "attention",
}
_REGIONS = ("CompiledFunction", "Torch-Compiled Region", "## Call CompiledFxGraph")

Operands = tuple[tuple[int, ...], ...]


class Shapes:
    """The predicted products by the shapes of their operands, forward and backward."""

    def __init__(self, parts: Sequence[StepPart]) -> None:
        self._names: dict[tuple[bool, Operands], str] = {}
        for part in parts:
            if part.product is not None and part.phase in ("forward", "backward"):
                rows, inner, columns = part.product.rows, part.product.inner, part.product.columns
                key = part.phase == "backward", ((rows, inner), (inner, columns))
                self._names.setdefault(key, part.name)
        geglu = any(part.name == "geglu forward" for part in parts)
        self._operators = _COMPILED | {"lyceum::glu": "geglu" if geglu else "swiglu"}

    def row(self, inner: Sequence[Span], backward: bool) -> str | None:
        """Of the calls round a span, from the innermost: its row, if a compiled layer made them."""
        if not any(caller.name.startswith(_REGIONS) for caller in inner):
            return None
        for caller in inner:
            if caller.name in PRODUCTS and caller.shapes:
                first = 0 if caller.name == "aten::mm" else 1
                operands = tuple(tuple(shape) for shape in caller.shapes[first : first + 2])
                return self._names.get((backward, operands), REST)
            for prefix, name in self._operators.items():
                if caller.name.startswith(prefix):
                    return f"{name} {'backward' if backward else 'forward'}"
        return REST


UNKNOWN = "not attributed"
_FUSED = "lyceum::linear_cross_entropy"

_LINEARS = {
    "linear_qkv": "qkv projection",
    "linear_proj": "attention output projection",
    "linear_fc1": "gate and up projection",
    "linear_fc2": "down projection",
    "output_layer": "output layer",
}
_OPERATORS = {
    "input_layernorm": "input norm",
    "pre_mlp_layernorm": "add + norm",
    "q_layernorm": "head norms",
    "k_layernorm": "head norms",
    "final_layernorm": "final norm",
    "rope": "rope",
    "attention": "attention",
    "swiglu": "swiglu",
    "geglu": "geglu",
    "rms_norm": "norms",
    "layer_norm": "norms",
}
_TIED = ("embedding", "output_layer")
_REST = {
    "core_attention": "document borders and rotations",
    "self_attention": "attention block, other",
    "mlp": "mlp, other",
    "layer": "layer, other",
    "next_batch": "next batch",
    "count": "tokens counted",
    "forward_backward": "schedule, other",
    "update": "update, other",
    "adamw_step": "adamw",
    "grad_square_sum": "gradient norm",
}


@dataclass
class Attribution:
    """Seconds of the device over all profiled steps."""

    rows: dict[str, float]
    busy_seconds: float
    """The sum of all spans; what ran side by side counts twice."""
    union_seconds: float
    """When at least one ran."""
    window_seconds: float
    """From the start of the first step to the end of the last one's work."""
    launches: int
    unknown: dict[str, float] = field(default_factory=dict)
    """By name, what `not attributed` is made of."""

    @property
    def idle_share(self) -> float:
        """The share of the time in which the device had nothing to do."""
        return max(0.0, 1.0 - self.union_seconds / self.window_seconds)


def attribute(trace: Trace, parts: Sequence[StepPart] = ()) -> Attribution:
    """Give each span of the device to a row.

    `parts`: whose shapes name the products of compiled layers, which have no ranges inside.
    """
    operators = [span for span in trace.host if span.kind == "cpu_op"]
    spans = trace.device if trace.on_device else operators
    namer = _Namer(operators, Shapes(parts))
    rows: dict[str, float] = defaultdict(float)
    unknown: dict[str, float] = defaultdict(float)
    for span in spans:
        seconds = span.seconds if trace.on_device else span.own_seconds
        row = namer.row(span)
        rows[row] += seconds
        if row == UNKNOWN:
            unknown[span.name] += seconds
    return Attribution(
        rows=dict(rows),
        busy_seconds=sum(rows.values()),
        union_seconds=union_seconds(spans),
        window_seconds=sum(span.seconds for span in trace.host if span.name == WINDOW),
        launches=len(spans),
        unknown=dict(unknown),
    )


class _Namer:
    def __init__(self, operators: list[Span], shapes: Shapes) -> None:
        self._shapes = shapes
        self._order: dict[int, int] = {}
        """A product's number among those of its node, or of its fused operator."""
        counts: Counter[int] = Counter()
        for span in operators:
            if span.name in PRODUCTS:
                owner = next(filter(_owns_products, span.chain()), None)
                self._order[id(span)] = counts[id(owner)]
                counts[id(owner)] += 1

    def row(self, span: Span) -> str:
        """The row of a span of the device."""
        inner: list[Span] = []
        for caller in span.chain():
            if caller.name.startswith(NODE):
                return self._backward(inner, caller, span)
            if caller.name.startswith(PREFIX) and caller.name != WINDOW:
                name = self._forward(_place(caller), inner, span)
                again = any(outer.name.startswith(NODE) for outer in caller.chain())
                return f"{name} again" if again else name
            inner.append(caller)
        return UNKNOWN

    def _forward(self, place: str, inner: list[Span], span: Span) -> str:
        if span.name.startswith("Memcpy HtoD"):
            return "batch to the device"
        if place in ("forward_backward", "layer"):
            compiled = self._shapes.row(inner, backward=False)
            if compiled is not None:
                return compiled
        if place == "embedding":
            looked_up = any(caller.name == "aten::embedding" for caller in inner)
            return "embedding forward" if looked_up else "embedding transposed"
        if place == "output_layer":
            return self._output(inner)
        if place == "self_attention" and any(caller.name == "aten::contiguous" for caller in inner):
            return "values copied"
        if place == "layer" and any(caller.name == "aten::add" for caller in inner):
            return "residual add"
        if place in _LINEARS:
            return f"{_LINEARS[place]} forward"
        return f"{_OPERATORS[place]} forward" if place in _OPERATORS else _REST[place]

    def _backward(self, inner: list[Span], node: Span, span: Span) -> str:
        kind = node.name.removeprefix(NODE)
        if kind.endswith("AccumulateGrad"):
            return "gradients added"
        place = "" if node.forward is None else _place(node.forward)
        if not place:
            return UNKNOWN
        if place in ("forward_backward", "layer"):
            compiled = self._shapes.row(inner, backward=True)
            if compiled is not None:
                return compiled
        # What stands beside the node's own span is the engine's: types made right, and sums of the
        # gradients that reach one tensor on several ways.
        if not any(caller.name == kind for caller in inner):
            if any(caller.name == "aten::to" for caller in inner):
                return "gradients widened"
            if any(caller.name.startswith("aten::add") for caller in inner):
                return _summed(place)
        return self._of_node(place, kind, inner)

    def _of_node(self, place: str, kind: str, inner: list[Span]) -> str:
        if place in _LINEARS:
            product = _product(inner)
            if product is not None:
                which = "weight" if self._order[id(product)] % 2 else "input"
                return f"{_LINEARS[place]} {which} gradient"
            return "cross entropy" if place == "output_layer" else f"{_LINEARS[place]}, other"
        if place == "embedding":
            copied = any(caller.name in ("aten::contiguous", "aten::clone") for caller in inner)
            return "embedding gradient transposed" if copied else "embedding backward"
        if place == "self_attention" and kind.startswith("Split"):
            return "qkv gradient joined"
        return f"{_OPERATORS[place]} backward" if place in _OPERATORS else _REST[place]

    def _output(self, inner: list[Span]) -> str:
        product = _product(inner)
        if product is None:
            return "cross entropy"
        fused = any(caller.name.startswith(_FUSED) for caller in inner)
        if fused and product.name == "aten::addmm":
            return "output layer weight gradient"
        # The fused loss multiplies a chunk three times: logits, hidden gradient, weight gradient.
        if fused and self._order[id(product)] % 3:
            return "output layer input gradient"
        return "output layer forward"


def _owns_products(span: Span) -> bool:
    return span.name.startswith((NODE, _FUSED))


def _product(inner: list[Span]) -> Span | None:
    return next((caller for caller in inner if caller.name in PRODUCTS), None)


def _place(span: Span) -> str:
    """The innermost range round a span; a norm's is its module's, if that is there; else empty."""
    found = [
        caller.name.removeprefix(PREFIX)
        for caller in span.chain()
        if caller.name.startswith(PREFIX) and caller.name != WINDOW
    ]
    if found[:1] == ["rms_norm"] and len(found) > 1 and found[1].endswith("layernorm"):
        return found[1]
    return found[0] if found else ""


def _summed(place: str) -> str:
    if place in _TIED:
        return "tied embedding's gradients added"
    if place in ("input_layernorm", "pre_mlp_layernorm"):
        return "gradients of the residual stream added"
    return f"{_OPERATORS[place]} backward" if place in _OPERATORS else _REST.get(place, UNKNOWN)
