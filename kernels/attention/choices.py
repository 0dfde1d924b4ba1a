"""Which back end `auto` runs on a GPU: measured once a class of shapes, then remembered."""

import logging
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from kernels.attention.backends import Backend, run, why_not
from kernels.attention.visible import Visible

Timer = Callable[[Callable[[], object]], float]
"""The milliseconds that one call takes."""

CANDIDATES: tuple[Backend, ...] = ("flash", "triton", "sdpa")

MASK_BYTES = 2**30
"""A dense mask larger than this keeps SDPA out of the choice; it would be kept for every layer."""

_log = logging.getLogger(__name__)


def cuda_milliseconds(call: Callable[[], object]) -> float:
    """The median of ten calls on the current CUDA stream, after two that warm up."""
    marks = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(12)]
    for before, after in marks:
        before.record()
        call()
        after.record()
    torch.cuda.synchronize()
    times = sorted(before.elapsed_time(after) for before, after in marks[2:])
    return float(times[len(times) // 2])


class Choices:
    """The back end chosen for each class of shapes, by measurement at the first call of the class.

    `timer` returns the milliseconds of a forward and backward pass. A resumed run restores the
    exported choices, and so computes with the same back ends.
    """

    def __init__(self, timer: Timer = cuda_milliseconds) -> None:
        self._timer = timer
        self._chosen: dict[str, Backend] = {}

    def exported(self) -> dict[str, str]:
        """A plain dict from each class of shapes, in words, to its back end."""
        return dict(self._chosen)

    def restore(self, chosen: Mapping[str, str]) -> None:
        """Load choices from `exported`. Raises ValueError for a back end that does not exist."""
        for shapes, wanted in chosen.items():
            backend = next((name for name in CANDIDATES if name == wanted), None)
            if backend is None:
                names = ", ".join(CANDIDATES)
                raise ValueError(f"choices: {wanted!r} for {shapes} is unknown; use {names}")
            self._chosen[shapes] = backend

    def choose(self, query: Tensor, key: Tensor, visible: Visible, deterministic: bool) -> Backend:
        """The back end for this call: the class's own, else the fastest by measurement.

        `query`: [queries, batch, heads, head_size]; `key`: [keys, batch, kv_heads, head_size].
        Never measures while something traces or captures (Triton then, where it can), nor where no
        gradient is asked for or a single token is generated (SDPA then, where it needs no mask of
        queries x keys or that is a single row; else Triton).
        """
        traced = _traced(query)
        possible = [
            name
            for name in CANDIDATES
            if not why_not(name, query, key, visible, deterministic)
            and not (name == "sdpa" and _mask_bytes(query, visible) > MASK_BYTES)
            # Its boundaries would have to be read on the host.
            and not (name == "flash" and traced and visible.kind == "documents")
        ]
        if not possible:
            return "reference"
        shapes = shape_class(query, key, visible, deterministic)
        chosen = self._chosen.get(shapes)
        if chosen in possible:
            return chosen
        if traced:
            return _first(("triton", "sdpa"), possible)
        if not torch.is_grad_enabled() or visible.queries == 1:
            maskless = _mask_bytes(query, visible) == 0 or visible.queries == 1
            return _first(("sdpa", "triton") if maskless else ("triton", "sdpa"), possible)
        if 0 in (*query.shape, *key.shape):
            return _first(("triton", "sdpa"), possible)
        self._chosen[shapes] = self._measure(shapes, possible, query, key, visible, deterministic)
        return self._chosen[shapes]

    def _measure(
        self,
        shapes: str,
        possible: list[Backend],
        query: Tensor,
        key: Tensor,
        visible: Visible,
        deterministic: bool,
    ) -> Backend:
        if len(possible) == 1:
            return possible[0]
        synthetic = _synthetic(query, key, visible)
        times = {name: self._time(name, *synthetic, deterministic) for name in possible}
        if query.is_cuda:
            torch.cuda.empty_cache()
        best = min(possible, key=times.__getitem__)
        if times[best] == math.inf:
            raise RuntimeError(f"attention: none of {', '.join(possible)} could run {shapes}")
        found = ", ".join(f"{name} {time:.3f} ms" for name, time in times.items())
        _log.info("attention runs %s for %s (forward + backward: %s)", best, shapes, found)
        return best

    def _time(
        self,
        backend: Backend,
        tensors: tuple[Tensor, Tensor, Tensor],
        visible: Visible,
        deterministic: bool,
    ) -> float:
        scale = tensors[0].shape[3] ** -0.5

        def call() -> object:
            output = run(backend, *tensors, visible, scale, deterministic)
            return torch.autograd.grad(output, tensors, torch.ones_like(output))

        try:
            return self._timer(call)
        except RuntimeError as error:  # out of memory, or no kernel for this chip
            _log.info("attention: %s is left out: %s", backend, str(error).splitlines()[0])
            return math.inf


def shape_class(query: Tensor, key: Tensor, visible: Visible, deterministic: bool) -> str:
    """The calls that share a choice, in words: lengths are rounded up to powers of 2."""
    _, _, heads, head_size = query.shape
    dtype = str(query.dtype).removeprefix("torch.")
    lengths = f"{_power_of_2(visible.queries)} x {_power_of_2(visible.keys)}"
    window = "" if visible.window is None else f" in windows of {_power_of_2(visible.window)}"
    pattern = "causal" if visible.is_causal else f"{visible.kind}{window}"
    repeatable = ", deterministic" if deterministic else ""
    return f"{heads}/{key.shape[2]} heads of {head_size} {dtype}, {lengths} {pattern}{repeatable}"


def _power_of_2(size: int) -> int:
    power = 1
    while power < size:
        power *= 2
    return power


def _mask_bytes(query: Tensor, visible: Visible) -> int:
    """What SDPA's mask of queries x keys would take; 0 where it needs none."""
    if visible.is_causal or visible.kind == "full":
        return 0
    return visible.batch * visible.queries * visible.keys * query.element_size()


def _traced(query: Tensor) -> bool:
    if torch.compiler.is_compiling() or isinstance(query, FakeTensor):
        return True
    return query.is_cuda and torch.cuda.is_current_stream_capturing()


def _first(wanted: tuple[Backend, ...], possible: list[Backend]) -> Backend:
    return next((name for name in wanted if name in possible), "reference")


def _synthetic(
    query: Tensor, key: Tensor, visible: Visible
) -> tuple[tuple[Tensor, Tensor, Tensor], Visible]:
    """((query, key, value), visible): one sequence of the class, at its rounded lengths."""
    queries, keys = _power_of_2(visible.queries), _power_of_2(visible.keys)
    device, window = query.device, visible.window
    pattern: Visible
    if visible.kind == "full":
        pattern = Visible.full(1, queries, keys, device)
    elif visible.kind == "documents":
        place = torch.arange(keys, device=device)[None]
        pattern = Visible.documents(place % max(keys // 4, 1), window=window)
    elif visible.kind == "intervals":
        place = torch.arange(keys, device=device)
        last = place[keys - min(queries, keys) :]
        pattern = Visible.documents(place[None] % max(keys // 4, 1), last, window)
    else:
        pattern = Visible.causal(1, queries, keys, window, device)

    def drawn(length: int, like: Tensor) -> Tensor:
        shape = (length, 1, *like.shape[2:])
        return torch.randn(shape, dtype=like.dtype, device=device, requires_grad=True)

    return (drawn(pattern.queries, query), drawn(keys, key), drawn(keys, key)), pattern
