"""`recompute: auto`: the cheapest set of parts to recompute with which a step fits in memory.

Each part's time is measured on this device at the recipe's shapes, without the exchanges among
tensor ranks; its bytes are the formula's. All sets of parts are compared, as there are few.
"""

import logging
from collections.abc import Callable, Mapping
from itertools import combinations, pairwise

import torch
from torch import Tensor

import kernels
from trainer.model.layers import gated, normalised
from trainer.model.rotary import rotary_embedding
from trainer.model.sequence import SequenceLayout
from trainer.parallel.device import DeviceTime
from trainer.parallel.layout import Layout
from trainer.plan.activations import Device, layer_kept
from trainer.plan.devices import GIB, device_memory
from trainer.plan.memory import memory
from trainer.recipe import Recipe
from trainer.recipe.recompute import PARTS
from trainer.recipe.shape import block_linears

_log = logging.getLogger(__name__)


OperatorCall = Callable[[], object]


def choose_recompute(recipe: Recipe, layout: Layout) -> str | list[str]:
    """The parts to recompute, in the form of `recompute`: none, a list, or full.

    One rank measures, for all; the choice is logged in one line.
    """
    assert recipe.model.vocab is not None, "the vocabulary is known"
    device: Device = "cpu" if layout.device.type == "cpu" else "cuda"
    seconds = measure_parts(recipe, layout)
    room = device_memory(layout.device)
    peaks = {
        parts: memory(
            recipe.model_copy(update={"recompute": parts}),
            layout.world_size,
            recipe.model.vocab,
            device,
        ).peak
        for parts in candidates()
    }
    chosen = cheapest(peaks, seconds, room)
    _log.info("%s", described(recipe, device, seconds, chosen, peaks[chosen], room))
    if peaks[chosen] > room:
        _log.warning(
            "batch.micro: %d sequences need about %.2f GiB a rank however much is recomputed, and"
            " there are %.2f; lower it, or set offload=activations",
            recipe.batch.micro,
            peaks[chosen] / GIB,
            room / GIB,
        )
    if chosen == "full":
        return "full"
    return list(chosen) or "none"


def candidates() -> list[tuple[str, ...] | str]:
    """The sets worth comparing: at most one of swiglu and mlp, since mlp includes swiglu."""
    sets: list[tuple[str, ...] | str] = [
        parts
        for count in range(len(PARTS))
        for parts in combinations(PARTS, count)
        if not {"swiglu", "mlp"} <= set(parts)
    ]
    return [*sets, "full"]


def cheapest(
    peaks: Mapping[tuple[str, ...] | str, float], seconds: Mapping[str, float], room: float
) -> tuple[str, ...] | str:
    """The set whose peak fits in `room` bytes at the least cost in time; else the smallest peak."""

    def cost(parts: tuple[str, ...] | str) -> float:
        return seconds["full"] if isinstance(parts, str) else sum(seconds[p] for p in parts)

    fitting = [parts for parts, peak in peaks.items() if peak <= room]
    if not fitting:
        return min(peaks, key=peaks.__getitem__)
    return min(fitting, key=lambda parts: (cost(parts), peaks[parts]))


def described(
    recipe: Recipe,
    device: Device,
    seconds: Mapping[str, float],
    chosen: tuple[str, ...] | str,
    peak: float,
    room: float,
) -> str:
    """The decision in one line, the cheapest second a byte first."""
    kept = sum(layer_kept(recipe, device, frozenset()).values())
    layers = recipe.model.layers / recipe.parallel.pipeline
    freed = {
        part: kept - sum(layer_kept(recipe, device, frozenset({part})).values()) for part in seconds
    }
    order = sorted(seconds, key=lambda part: seconds[part] / max(freed[part], 1e-9))
    parts = ", ".join(
        f"{part} {seconds[part] * layers:.4f} s for {freed[part] * layers / GIB:.3f} GiB"
        for part in order
    )
    words = chosen if isinstance(chosen, str) else ", ".join(chosen) or "none"
    return (
        f"recompute: auto takes {words}: {peak / GIB:.2f} GiB of {room / GIB:.2f} a rank "
        f"(a micro-batch of all layers: {parts})"
    )


def measure_parts(recipe: Recipe, layout: Layout, calls: int = 5) -> dict[str, float]:
    """Seconds that one layer's forward pass spends in each part, and in all (`full`)."""
    work = _Work(recipe, layout)
    with torch.no_grad():
        parts = {
            "norms": _median(work.norms(), layout.device, calls),
            "swiglu": _median(work.swiglu(), layout.device, calls),
            "attention": _attention_seconds(work, recipe, layout.device, calls),
        }
        products = [_median(call, layout.device, calls) for call in work.products()]
    parts["mlp"] = parts["swiglu"] + sum(products[2:])
    parts["full"] = parts["norms"] + parts["attention"] + products[0] + products[1] + parts["mlp"]
    return parts


def _attention_seconds(work: "_Work", recipe: Recipe, device: torch.device, calls: int) -> float:
    """Of the mean layer: those with a window have less to do."""
    windows = recipe.model.windows
    times = {w: _median(work.attention(w), device, calls) for w in dict.fromkeys(windows)}
    return sum(times[window] for window in windows) / len(windows)


def _median(call: OperatorCall, device: torch.device, calls: int) -> float:
    call()
    moments = [DeviceTime(device)]
    for _ in range(calls):
        call()
        moments.append(DeviceTime(device))
    moments[-1].wait()
    times = [after.seconds_since(before) for before, after in pairwise(moments)]
    return sorted(times)[len(times) // 2]


class _Work:
    """One layer's operators on tensors of the recipe's shapes, on this rank's share."""

    def __init__(self, recipe: Recipe, layout: Layout) -> None:
        self._recipe, self._layout = recipe, layout
        model, tensor = recipe.model, layout.tensor.size
        self._tensor = tensor
        self._micro = recipe.batch.micro
        self._tokens = recipe.sequence_length // layout.context.size
        self._heads, self._groups = model.heads // tensor, model.query_groups // tensor
        self._ffn = model.ffn // tensor
        places = torch.arange(recipe.sequence_length).repeat(self._micro, 1)
        self._sequence = SequenceLayout.whole(
            places.to(layout.device),
            rotary_embedding(recipe).to(layout.device),
            layout.context.rank,
            layout.context.size,
        )

    def norms(self) -> OperatorCall:
        """Both norms of a layer."""
        sequence, eps = self._recipe.parallel.sequence, self._recipe.model.norm_eps
        rows = self._tokens // (self._layout.tensor.size if sequence else 1)
        x = self._filled(rows, self._micro, self._recipe.model.hidden)
        weight = self._filled(self._recipe.model.hidden)
        bias = weight if self._recipe.model.norm == "layer" else None
        centered = self._recipe.model.zero_centered_norms
        return lambda: [normalised(x, weight, bias, eps, centered) for _ in range(2)]

    def swiglu(self) -> OperatorCall:
        """The gated product."""
        gate_up = self._filled(self._tokens, self._micro, 2 * self._ffn)
        activation = self._recipe.model.activation
        return lambda: gated(gate_up, activation)

    def attention(self, window: int | None) -> OperatorCall:
        """Rotation and attention of a layer with this window."""
        section, size = self._recipe.kernels, self._recipe.model.head_width
        query = self._filled(self._tokens, self._micro, self._heads, size)
        key = self._filled(self._tokens, self._micro, self._groups, size)
        whole = key.repeat(self._layout.context.size, 1, 1, 1)
        rotation, visible = self._sequence.rotation, self._sequence.visible_through(window)
        interleaved = self._recipe.model.rope_interleaved

        def call() -> object:
            turned, _ = kernels.rope(query, key, *rotation, interleaved=interleaved)
            return kernels.attention(
                *(turned, whole, whole, visible),
                backend=section.attention,
                deterministic=section.deterministic,
            )

        return call

    def products(self) -> list[OperatorCall]:
        """The linears: queries, keys and values; the output; gate and up; down."""
        held = (linear.of_rank(self._tensor) for linear in block_linears(self._recipe.model))
        return [self._product(linear.columns, linear.rows) for linear in held]

    def _product(self, inputs: int, outputs: int) -> OperatorCall:
        x = self._filled(self._tokens * self._micro, inputs)
        weight = self._filled(outputs, inputs)
        return lambda: x @ weight.t()

    def _filled(self, *shape: int) -> Tensor:
        dtype = torch.bfloat16 if self._recipe.precision == "bf16" else torch.float32
        return torch.full(shape, 0.01, dtype=dtype, device=self._layout.device)
