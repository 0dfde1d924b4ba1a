"""A kernel that has no row hides itself, and one in a wrong row hides another."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.parity.ranks import on_ranks
from tests.training.runs import recipe_of
from trainer.bench.step.attribute import REST, UNKNOWN, Shapes, _Namer, attribute
from trainer.bench.step.command import step_command
from trainer.bench.step.trace import Span, read_trace
from trainer.plan.floors import step_parts
from trainer.plan.share import share_of


def event(name: str, kind: str, start: float, length: float, thread: int = 1, **more: Any) -> Any:
    """A complete event of a trace."""
    common = {"ph": "X", "pid": 0, "tid": thread, "ts": start, "dur": length, "name": name}
    return common | {"cat": kind, "args": more}


NODE = "LinearBackward"


def gpu_trace() -> list[dict[str, Any]]:
    """A linear layer on a GPU: backward runs on another thread, and kernels long after calls."""
    calls = [
        event("lyceum/window", "user_annotation", 0, 1000),
        event("lyceum/forward_backward", "user_annotation", 1, 500),
        event("lyceum/linear_qkv", "user_annotation", 10, 40),
        event("Linear", "cpu_op", 11, 30),
        event("aten::mm", "cpu_op", 12, 20),
        event("cudaLaunchKernel", "cuda_runtime", 15, 5, correlation=1),
        event(f"autograd::engine::evaluate_function: {NODE}", "cpu_op", 100, 80, 2),
        event(NODE, "cpu_op", 101, 50, 2),
        event("aten::mm", "cpu_op", 102, 10, 2),
        event("cuLaunchKernelEx", "cuda_driver", 105, 5, 2, correlation=2),
        event("aten::mm", "cpu_op", 120, 10, 2),
        event("cudaLaunchKernel", "cuda_runtime", 125, 5, 2, correlation=3),
        event("aten::to", "cpu_op", 160, 10, 2),
        event("cudaLaunchKernel", "cuda_runtime", 165, 5, 2, correlation=4),
    ]
    flow = {"pid": 0, "cat": "fwdbwd", "name": "fwdbwd", "id": 7}
    flows = [
        flow | {"ph": "f", "tid": 2, "ts": 101, "bp": "e"},
        flow | {"ph": "s", "tid": 1, "ts": 11},
    ]
    starts = {1: (200, 100), 2: (300, 100), 3: (350, 100), 4: (500, 50), 99: (600, 10)}
    device = [
        event(f"kernel{number}", "kernel", *times, 70 + number, correlation=number)
        for number, times in starts.items()
    ]
    return [*calls, *flows, *device]


def test_kernels_are_found_by_what_launched_them() -> None:
    """Catches a kernel given to what the host did while it ran, or dropped for having no caller."""
    found = attribute(read_trace(gpu_trace()))
    assert {name: round(seconds * 1e6) for name, seconds in found.rows.items()} == {
        "qkv projection forward": 100,
        "qkv projection input gradient": 100,
        "qkv projection weight gradient": 100,
        "gradients widened": 50,
        UNKNOWN: 10,
    }
    assert list(found.unknown) == ["kernel99"]
    assert found.busy_seconds == pytest.approx(360e-6)
    # Two of them overlap by 50 microseconds.
    assert found.union_seconds == pytest.approx(310e-6)
    assert found.idle_share == pytest.approx(0.69)


def test_without_its_link_a_backward_kernel_has_no_row() -> None:
    """Negative control: the rows of the backward pass do come from the links."""
    events = [one for one in gpu_trace() if one["cat"] != "fwdbwd"]
    rows = attribute(read_trace(events)).rows
    assert rows[UNKNOWN] == pytest.approx(260e-6)
    assert sum(rows.values()) == pytest.approx(360e-6)


def test_products_of_compiled_layers_go_by_their_shapes() -> None:
    """Catches forward and backward products of one shape in one row, and one that has none."""
    recipe = recipe_of(Path("run"), Path("corpus"), batch__micro=2)
    shapes = Shapes(step_parts(share_of(recipe, 1, 0)))
    region = Span("CompiledFunction", "cpu_op", 0, 9, (0, 0))
    product = Span("aten::mm", "cpu_op", 1, 8, (0, 0), shapes=[[64, 64], [64, 64]])
    inner = [product, region]
    assert shapes.row(inner, backward=False) == "attention output projection forward"
    assert shapes.row(inner, backward=True) == "attention output projection input gradient"
    product.shapes = [[3, 5], [5, 7]]
    assert shapes.row(inner, backward=False) == REST
    assert shapes.row(inner[:1], backward=False) is None


COUNTING = {
    *("c10d::allreduce_", "aten::item", "aten::_local_scalar_dense", "aten::stack", "aten::cat"),
    *("aten::copy_", "aten::_to_copy", "aten::to", "aten::empty", "aten::empty_strided"),
    *("aten::as_strided", "aten::unsqueeze", "aten::lift_fresh", "aten::resolve_conj"),
    *("aten::resolve_neg", "aten::detach", "aten::detach_", "detach", "detach_"),
}
"""Operators of what the host counts between the parts of a step, and exchanges with other ranks."""


def bench(run: Path, file: Path, trace: Path, keys: dict[str, Any]) -> dict[str, Any]:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        del os.environ[name]  # alone, it needs no port, which another process could take meanwhile
    recipe = recipe_of(run, run, **keys)
    step_command(recipe, on_cpu=True, json_file=file, trace_file=trace)
    figures: dict[str, Any] = json.loads(file.read_text())
    return figures


def test_a_measured_step_is_wholly_accounted_for(tmp_path: Path) -> None:
    """Catches operators that no row holds, parts that nothing is found of, and time lost between.

    In bf16, whose gradients are widened, with two micro-batches, whose gradients are added.
    """
    trace = tmp_path / "trace.json"
    keys = {
        "precision": "bf16",
        "batch__sequences": 4,
        "batch__micro": 2,
        "model__layers": 2,
        "recompute": ["swiglu"],
    }
    arguments = tmp_path / "run", tmp_path / "step.json", trace, keys
    figures = on_ranks(1, bench, *arguments)[0]
    rows = {row["name"]: row["measured_seconds"] for row in figures["rows"]}
    spent = figures["measured"]["attribution"]
    device = {name: seconds for name, seconds in rows.items() if name != "launch gaps"}
    assert sum(device.values()) == pytest.approx(spent["busy_seconds"], rel=1e-9)
    events = json.loads(trace.read_text())["traceEvents"]
    ends = [(e["ts"], e["ts"] + e["dur"]) for e in events if e.get("cat") == "cpu_op"]
    # One thread: what is busy is the union of its operators, counted here by another way.
    union, until = 0.0, 0.0
    for start, end in sorted(ends):
        union += max(0.0, end - max(start, until))
        until = max(until, end)
    assert spent["busy_seconds"] == pytest.approx(union * 1e-6, rel=0.01)
    operators = [span for span in read_trace(events).host if span.kind == "cpu_op"]
    namer = _Namer(operators, Shapes(()))
    unknown = Counter(span.name for span in operators if namer.row(span) == UNKNOWN)
    # By their number: how long an exchange over gloo waits depends on what else the machine does.
    assert unknown.keys() <= COUNTING and unknown.total() < 0.01 * len(operators)
    found = {row["name"] for row in figures["rows"] if row["predicted"] is not None}
    # The batch is on the CPU already.
    assert [name for name in found if not rows[name]] == ["batch to the device"]
    alone = {row["name"] for row in figures["rows"] if row["alone_seconds"] is not None}
    assert alone == {row["name"] for row in figures["rows"] if _product(row) is not None}
    window = figures["measured"]["profiled_step_seconds"]
    assert figures["profiled_idle_share"] == pytest.approx(1 - spent["union_seconds"] / window)
    assert 0 <= figures["idle_share"] < 1


def _product(row: dict[str, Any]) -> Any:
    return None if row["predicted"] is None else row["predicted"]["product"]
