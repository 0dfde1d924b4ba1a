"""`lyceum bench kernels --compile-only`: compile, show, judge; `--write` keeps the readings."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import triton

from kernels.bench.errors import GateFailed
from kernels.gate.collect import Outcome, Row, collect
from kernels.gate.rules import differences, failures, regressions
from kernels.gate.table import read_table, show, table_path, write_table


@dataclass(frozen=True)
class GateResult:
    """Everything that keeps the gate shut; empty lists open it."""

    failures: list[str]
    regressions: list[str]
    differences: list[str]

    def problems(self, *, differences: bool) -> list[str]:
        """Those that count; mere differences from the table do where `differences` is set."""
        return [*self.failures, *self.regressions, *(self.differences if differences else ())]


def gate_command(families: Sequence[str], *, write: bool) -> None:
    """Print every reading; raise GateFailed where a rule is broken or the table says otherwise.

    `write` replaces the families' rows of the table, unless a kernel has become worse.
    """
    started = time.perf_counter()
    outcomes = collect(families)
    seconds = time.perf_counter() - started
    print(show(outcomes))
    path = table_path()
    verdict = judge(outcomes, path, families)
    kernels = sum(isinstance(one, Row) for one in outcomes)
    print(f"\n{kernels} kernels compiled and read in {seconds:.0f} s (Triton {triton.__version__})")
    problems = verdict.problems(differences=not write)
    for problem in problems:
        print(problem)
    if verdict.failures or verdict.regressions:
        raise GateFailed(
            f"{len(problems)} problems, listed above; mend the kernel or its tiles (where a row "
            f"of {path.name} asks for too much, delete the row and call with --write)"
        )
    if problems:
        raise GateFailed(
            f"{len(problems)} rows differ from {path.name}, listed above, none against a rule; "
            "see that it is meant, then call with --write"
        )
    if write:
        write_table(path, outcomes, families)
        print(f"written to {path}")
    elif not path.exists():
        print(f"no table for Triton {triton.__version__} to compare with: only the rules were held")


def judge(outcomes: Sequence[Outcome], path: Path, families: Sequence[str]) -> GateResult:
    """Hold the outcomes against the rules, and against the table where it exists."""
    table = read_table(path, families)
    if table is None:
        return GateResult(failures(outcomes), [], [])
    return GateResult(
        failures(outcomes), regressions(outcomes, table), differences(outcomes, table)
    )
