"""`lyceum bench kernels --check`: every kernel's results and gradients beside fp64.

On a GPU it is the compiled kernels that are held; on the CPU the references, or with
LYCEUM_KERNELS=triton the kernels in Triton's interpreter, at small shapes. On a GPU the cases
run in processes of their own, as nearly all of their time is the compiler's.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import groupby
from pathlib import Path

import torch

from kernels import dispatch
from kernels.bench.checks.case import CheckCase
from kernels.bench.errors import CheckFailed, line_of
from kernels.bench.families import load
from kernels.bench.processes import spread
from kernels.bench.run import BenchRun
from kernels.bench.table import layout
from kernels.bench.tolerance import relative_error

HEADER = ("operator", "size", "dtype", "results", "worst", "error", "allowed", "")


@dataclass(frozen=True)
class Checked:
    """One case: of its results and gradients, the one nearest to its bound or farthest beyond."""

    family: str
    operator: str
    size: str
    dtype: str
    results: tuple[str, ...]
    worst: str | None
    error: float | None
    """Relative to the largest element (or to the terms that cancel in it); None: infinite."""
    allowed: float | None
    failure: str | None
    """What stopped it, or "off by more than allowed"; None where all is right."""


SEED = 1234
"""Of the inputs of each case."""


def check_kernels(names: Sequence[str], run: BenchRun, json_file: Path | None) -> None:
    """Hold these families beside fp64 and print a table of each; raises CheckFailed."""
    device = torch.device("cuda", torch.cuda.current_device()) if run.gpu else torch.device("cpu")
    implementation = which_runs(device)
    print(f"{run}\nheld beside fp64: {implementation}")
    checked: list[Checked] = []
    for _, group in groupby(_all_checked(names, device), key=lambda one: one.family):
        own = list(group)
        print(f"\n{markdown(own)}", flush=True)
        checked += own
        # After each family: what was checked outlives a crash in the next.
        if json_file is not None:
            content = {
                "run": asdict(run),
                "implementation": implementation,
                "cases": [asdict(one) for one in checked],
            }
            json_file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    wrong = [one for one in checked if one.failure is not None]
    print(f"\n{len(checked) - len(wrong)} of {len(checked)} cases are right ({implementation})")
    if wrong:
        first = wrong[0]
        raise CheckFailed(
            f"{len(wrong)} of {len(checked)} kernel checks failed, the first: {first.operator} "
            f"{first.size} {first.dtype}: {first.failure}"
        )


def _all_checked(names: Sequence[str], device: torch.device) -> Iterator[Checked]:
    """Every case, family by family; on a GPU all are compiled and run by one pool of processes."""
    if device.type == "cpu":
        return (_repeatable(name, case) for name in names for case in _cases(name, device))
    work = [(name, n, device) for name in names for n in range(len(_cases(name, device)))]
    return spread(_check_numbered, work)


def _cases(family: str, device: torch.device) -> list[CheckCase]:
    return list(load(family).check_cases(device, device.type == "cpu"))


_cases_once = cache(_cases)
"""For a process of the pool, which runs many cases of a family."""


def _check_numbered(family: str, number: int, device: torch.device) -> Checked:
    return _repeatable(family, _cases_once(family, device)[number])


def _repeatable(family: str, case: CheckCase) -> Checked:
    torch.manual_seed(SEED)
    return checked_case(family, case)


def which_runs(device: torch.device) -> str:
    """The implementation that `kernels` dispatches to on this device, in words."""
    triton = dispatch.use_triton(torch.empty(0, device=device))
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        where = f"{torch.cuda.get_device_name(device)} (sm_{major}{minor})"
        return f"{'Triton, compiled' if triton else 'the PyTorch references'}, on {where}"
    return "Triton's interpreter on the CPU" if triton else "the PyTorch references on the CPU"


def checked_case(family: str, case: CheckCase) -> Checked:
    """Run one case; whatever it raises is kept in its place."""
    names: list[str] = []
    worst, error, allowed, failure = None, 0.0, 0.0, None
    try:
        for held in case.run():
            names.append(held.name)
            found = relative_error(held.found, held.right, held.scale)
            if worst is None or found / held.allowed > error / allowed:
                worst, error, allowed = held.name, found, held.allowed
    except Exception as stopped:
        failure = line_of(stopped, 120)
    if failure is None and not names:
        failure = "nothing was compared"
    if failure is None and not error <= allowed:
        failure = f"{worst} is off by {error:.3g}, allowed is {allowed:.3g}"
    return Checked(
        family=family,
        operator=case.operator,
        size=case.size,
        dtype=str(case.dtype).removeprefix("torch."),
        results=tuple(names),
        worst=worst,
        error=error if worst and math.isfinite(error) else None,
        allowed=allowed if worst else None,
        failure=failure,
    )


def markdown(checked: Iterable[Checked]) -> str:
    """A table, one line a case."""
    return layout([HEADER, *_rows(checked)])


def _rows(checked: Iterable[Checked]) -> Iterator[tuple[str, ...]]:
    for one in checked:
        error, allowed = ("-" if x is None else f"{x:.2e}" for x in (one.error, one.allowed))
        count, verdict = str(len(one.results)), one.failure or "right"
        yield (one.operator, one.size, one.dtype, count, one.worst or "-", error, allowed, verdict)
