"""Choosing tile sizes by measuring them on this machine's GPU, and keeping them in the table."""

import contextlib
import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter
from pathlib import Path

import torch
from triton.compiler.errors import CompilationError
from triton.runtime.errors import OutOfResources, PTXASError

from kernels import tiles
from kernels.bench.case import TuneCase
from kernels.bench.families import load
from kernels.bench.measure import Clock, measure, quantile
from kernels.bench.processes import spread
from kernels.bench.table import time_text

Rows = list[dict[str, int]]

_UNFIT = (CompilationError, OutOfResources, PTXASError, torch.OutOfMemoryError)

_HOPELESS = 1.3
"""Times the best median so far: a candidate whose first calls take longer is not measured."""


def tune_family(family: str, device: torch.device, clock: Clock, run: str) -> None:
    """Measure every candidate of the family and rewrite its chip's rows; `run` is their source.

    On a GPU all are compiled first, in processes of their own.
    """
    cases = list(load(family).tune_cases())
    if device.type == "cuda":
        _compile_first(family, cases, device)
    best: dict[str, Rows] = {}
    for case in cases:
        chosen = fastest(case, device, clock)
        if chosen is None:
            print(f"{case.kernel} at {case.width}: no candidate runs; the table stays as it is")
            continue
        constants, seconds = chosen
        print(f"{case.kernel} at {case.width}: {time_text(seconds)} with {constants}")
        best.setdefault(case.kernel, []).append({"up_to": case.width, **constants})
    for name in dict.fromkeys(kernel.partition(".")[0] for kernel in best):
        own = {kernel: rows for kernel, rows in best.items() if kernel.partition(".")[0] == name}
        rewrite(tiles.FOLDER / f"{name}.json", tiles.chip(device), own, run)


def fastest(
    case: TuneCase, device: torch.device, clock: Clock
) -> tuple[dict[str, int], float] | None:
    """The candidate of the best median, and that; none where not one fits the chip."""
    function = case.prepare(device)
    found: list[tuple[float, dict[str, int]]] = []
    for constants in case.candidates:
        with tiles.trying(case.kernel, constants):
            try:
                function()
                first = quantile(clock.seconds(function, 3), 0.5)
                if found and first > _HOPELESS * min(found, key=itemgetter(0))[0]:
                    continue
                median = measure(function, clock, warm_up=0.02, enough=0.1).median_seconds
            except _UNFIT:
                continue
        found.append((median, dict(constants)))
    if not found:
        return None
    seconds, constants = min(found, key=itemgetter(0))
    return constants, seconds


def _compile_first(family: str, cases: Sequence[TuneCase], device: torch.device) -> None:
    """Fill Triton's cache on the disk with every candidate of all cases of the family."""
    work = [
        (family, number, candidate, device)
        for number, case in enumerate(cases)
        for candidate in range(len(case.candidates))
    ]
    for _ in spread(_compile_candidate, work):
        pass


def _compile_candidate(family: str, number: int, candidate: int, device: torch.device) -> None:
    case, function = _prepared(family, number, device)
    with tiles.trying(case.kernel, case.candidates[candidate]), contextlib.suppress(*_UNFIT):
        function()


@lru_cache(1)
def _prepared(
    family: str, number: int, device: torch.device
) -> tuple[TuneCase, Callable[[], object]]:
    case = list(load(family).tune_cases())[number]
    return case, case.prepare(device)


def rewrite(path: Path, chip: str, best: dict[str, Rows], run: str) -> None:
    """Put the rows into the file as the chip's; rows of other widths and chips stay.

    `best`: the rows of each kernel, named as in `tiles.tile`. The source becomes one line a chip.
    """
    table = json.loads(path.read_text(encoding="utf-8"))
    for kernel, rows in best.items():
        by_chip: dict[str, Rows] = table["kernels"][kernel.partition(".")[2]]
        merged = {row["up_to"]: row for row in [*tiles._rows(kernel, chip), *rows]}
        by_chip[chip] = [merged[width] for width in sorted(merged)]
    source = table["source"]
    if isinstance(source, str):
        source = {"others": source}
    names = ", ".join(kernel.partition(".")[2] for kernel in best)
    source[chip] = f"{names}: measured on {run}"
    text = json.dumps({"source": source, "kernels": table["kernels"]}, indent=2)
    # As people read it: a row a line.
    text = re.sub(r'{\s*"up_to"[^}]*}', lambda row: json.dumps(json.loads(row[0])), text)
    path.write_text(text + "\n", encoding="utf-8")
    tiles.table.cache_clear()
    tiles._tile.cache_clear()
