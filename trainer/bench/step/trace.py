"""A Chrome trace of the profiler as spans: who called whom, and what a GPU ran for it.

The links are those that the profiler writes: `correlation` from a call of CUDA's runtime to what
it made the GPU do, and `fwdbwd` flows from a forward operator to its node of the backward pass. The
GPU's side was written from the format's description and has not met a GPU's trace.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

NODE = "autograd::engine::evaluate_function: "
"""How the engine's span round a node of the backward pass is called, before the node's name."""

_HOST = ("cpu_op", "user_annotation", "cuda_runtime", "cuda_driver")
_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")


@dataclass(eq=False)
class Span:
    """Something that ran; times in microseconds."""

    name: str
    kind: str
    start: float
    end: float
    thread: tuple[Any, Any]
    """Of a host (process, thread), of a GPU (device, stream)."""
    shapes: Any = None
    """The operator's input dimensions, where they were recorded."""
    parent: "Span | None" = None
    """Of a GPU's span: the call that made it; none: not known."""
    forward: "Span | None" = None
    """Of a node of the backward pass: its forward operator."""
    children: list["Span"] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end - self.start) * 1e-6

    @property
    def own_seconds(self) -> float:
        """What is left of that without what it called."""
        return self.seconds - sum(child.seconds for child in self.children)

    def chain(self) -> "Iterator[Span]":
        """Itself, its caller, and so on outwards."""
        span: Span | None = self
        while span is not None:
            yield span
            span = span.parent


@dataclass(frozen=True)
class Trace:
    """The spans of a trace, in order of their start; those of the GPU are empty on a CPU."""

    host: list[Span]
    device: list[Span]

    @property
    def on_device(self) -> bool:
        """Whether a GPU did the work."""
        return bool(self.device)


def read_trace(events: Iterable[dict[str, Any]]) -> Trace:
    """The spans of a trace's `traceEvents`, with their links."""
    events = list(events)
    host, device, calls = [], [], {}
    for event in events:
        if event.get("ph") != "X" or event.get("cat") not in (*_HOST, *_DEVICE):
            continue
        arguments = event.get("args", {})
        span = Span(
            *(event["name"], event["cat"], event["ts"], event["ts"] + event["dur"]),
            thread=(event["pid"], event["tid"]),
            shapes=arguments.get("Input Dims"),
        )
        if span.kind in _DEVICE:
            device.append((span, arguments.get("correlation")))
            continue
        host.append(span)
        if span.kind.startswith("cuda"):
            calls[arguments.get("correlation")] = span
    host.sort(key=lambda span: (span.start, -span.end))
    _nest(host)
    _link_backward(host, events)
    for span, correlation in device:
        span.parent = calls.get(correlation)
    return Trace(host, sorted((span for span, _ in device), key=lambda span: span.start))


def _nest(host: list[Span]) -> None:
    """Within a thread, what began while another ran was called by it."""
    open_spans: dict[tuple[Any, Any], list[Span]] = {}
    for span in host:
        stack = open_spans.setdefault(span.thread, [])
        while stack and stack[-1].end <= span.start:
            stack.pop()
        if stack:
            span.parent = stack[-1]
            if span.kind == "cpu_op":
                _nearest_operator(span.parent, span)
        stack.append(span)


def _nearest_operator(caller: Span | None, span: Span) -> None:
    """Time is an operator's own if no other operator took it, whatever ranges stand between."""
    while caller is not None and caller.kind != "cpu_op":
        caller = caller.parent
    if caller is not None:
        caller.children.append(span)


def _link_backward(host: list[Span], events: list[dict[str, Any]]) -> None:
    places: dict[tuple[Any, Any, float], Span] = {}
    for span in host:
        if span.kind == "cpu_op":
            places.setdefault((*span.thread, span.start), span)
    begun: dict[Any, Span] = {}
    flows = [event for event in events if event.get("cat") == "fwdbwd"]
    for event in sorted(flows, key=lambda event: event["ph"] != "s"):
        span_there = places.get((event["pid"], event["tid"], event["ts"]))
        if span_there is None:
            continue
        if event["ph"] == "s":
            begun[event["id"]] = span_there
            continue
        # The flow ends at the node's own span, around which the engine has another.
        span_there.forward = begun.get(event["id"])
        engine = span_there.parent
        if engine is not None and engine.name.startswith(NODE):
            engine.forward = span_there.forward


def union_seconds(spans: Iterable[Span]) -> float:
    """How long at least one of the spans ran."""
    total, until = 0.0, float("-inf")
    for span in sorted(spans, key=lambda span: span.start):
        if span.end > until:
            total += span.end - max(span.start, until)
            until = span.end
    return total * 1e-6
