"""`lyceum bench kernels`: measure on a GPU; without one, only compile, or show the floors."""

import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from kernels.bench.case import BenchCase, Sizes
from kernels.bench.ceilings import H200, Ceilings, measure_ceilings
from kernels.bench.errors import BenchError, line_of
from kernels.bench.families import chosen, load
from kernels.bench.measure import Clock, GpuClock, measure
from kernels.bench.plot import plot
from kernels.bench.run import BenchRun, describe_run
from kernels.bench.table import Result, document, floors, markdown

OURS = "lyceum"


def kernels_command(
    family: str | None,
    *,
    sizes: Sizes = "sweep",
    compile_only: bool = False,
    write: bool = False,
    tune: bool = False,
    check: bool = False,
    json_file: Path | None = None,
    plots: Path | None = None,
) -> None:
    """Do what the flags say, for one family or for all.

    Raises BenchError for what cannot be asked here, GateFailed where the compile gate stays shut,
    CheckFailed where a kernel is wrong.
    """
    if write and not compile_only:
        raise BenchError("--write: keeps what --compile-only reads; give both")
    if (compile_only or tune) and (json_file or plots):
        mode = "--compile-only" if compile_only else "--tune"
        raise BenchError(f"{mode}: measures no implementations; leave out --json and --plots")
    if check and plots:
        raise BenchError("--check: compares numbers and draws nothing; leave out --plots")
    names = chosen(family)
    if check:
        from kernels.bench.check import check_kernels

        _check_places(json_file, None)
        words = ["lyceum", "bench", "kernels", *([family] if family else []), "--check"]
        check_kernels(names, describe_run(shlex.join(words)), json_file)
    elif compile_only:
        from kernels.gate.command import gate_command

        gate_command(names, write=write)
    elif tune:
        _tune(names, f"lyceum bench kernels {family + ' ' if family else ''}--tune")
    else:
        _check_places(json_file, plots)
        words = ["lyceum", "bench", "kernels", *([family] if family else []), "--sizes", sizes]
        _bench(names, sizes, describe_run(shlex.join(words)), json_file, plots)


def _tune(names: Sequence[str], command: str) -> None:
    if not torch.cuda.is_available():
        raise BenchError("--tune: needs a GPU to measure on, and PyTorch finds none here")
    from kernels.bench.tune import tune_family

    device = torch.device("cuda", torch.cuda.current_device())
    for name in names:
        tune_family(name, device, GpuClock(device), str(describe_run(command)))


def _bench(
    names: Sequence[str], sizes: Sizes, run: BenchRun, json_file: Path | None, plots: Path | None
) -> None:
    if run.gpu is None:
        results = _show_floors(names, sizes)
        _keep(json_file, run, H200, results)
        if plots is not None:
            print("\nno plots: they show measured times")
        return
    device = torch.device("cuda", torch.cuda.current_device())
    clock = GpuClock(device)
    ceilings = measure_ceilings(device, clock)
    print(f"{run}\nceilings: {ceilings}")
    results = []
    for name in names:
        own: list[Result] = []
        for case in load(name).bench_cases(sizes):
            own += measure_case(name, case, ceilings, device, clock)
        print(f"\n{markdown(own)}", flush=True)
        results += own
        # After each family: what was measured outlives a failure in the next.
        _keep(json_file, run, ceilings, results)
        for path in plot(own, plots, str(run)) if plots is not None else ():
            print(f"written: {path}")


def _show_floors(names: Sequence[str], sizes: Sizes) -> list[Result]:
    results = [
        Result(name, case, None, H200.floor_seconds(case), H200.best_rate(case))
        for name in names
        for case in load(name).bench_cases(sizes)
    ]
    print("No GPU: nothing is measured. The least times, at 4.3 TB/s and 790 TFLOP/s,")
    print(f"{H200.source}:\n")
    print(floors(results))
    return results


def _keep(json_file: Path | None, run: BenchRun, ceilings: Ceilings, results: list[Result]) -> None:
    if json_file is not None:
        text = json.dumps(document(run, ceilings, results), indent=2)
        json_file.write_text(text + "\n", encoding="utf-8")


def measure_case(
    family: str, case: BenchCase, ceilings: Ceilings, device: torch.device, clock: Clock
) -> Iterator[Result]:
    """One result for each implementation.

    What a peer's failure says is kept in its place; ours is raised.
    """
    # Else the eighth size of one function would run without being compiled, and silently so.
    torch.compiler.reset()
    floor, ceiling = ceilings.floor_seconds(case), ceilings.best_rate(case)
    try:
        implementations = case.prepare(device)
    except torch.OutOfMemoryError:
        yield Result(family, case, None, floor, ceiling, None, "out of memory")
        return
    for implementation, function in implementations.items():
        measurement = failure = None
        try:
            measurement = measure(function, clock)
        except Exception as error:
            if implementation == OURS:
                raise
            failure = line_of(error, 80)
        yield Result(family, case, implementation, floor, ceiling, measurement, failure)


def _check_places(json_file: Path | None, plots: Path | None) -> None:
    """Before anything is measured: else an hour's figures have nowhere to go."""
    try:
        if json_file is not None:
            json_file.open("a").close()
        if plots is not None:
            plots.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchError(f"{error.filename}: cannot be written: {error.strerror}") from error
